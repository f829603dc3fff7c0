"""CDAE: an autoencoder of what a user did, with a vector of the user's own.

Wu et al., "Collaborative denoising auto-encoders for top-N recommender systems" (WSDM'16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.data.batch import Batch
from fastkd.models.config import MODELS, ModelConfig, normal_parameter, options_of
from fastkd.models.encoded import EncodedTables, History
from fastkd.models.protocol import Recommender, Tables, bce_rows
from fastkd.models.towers import HistoryTower


@dataclass(frozen=True, kw_only=True)
class CDAEConfig:
    """Options of CDAE. ``corruption``: share of a user's items dropped from the input at each step of training.

    The default is the published one of the distillation studies (Kweon et al., WWW'21), with five negatives for each
    positive (``training.negatives=5``), teacher 50 and student 5 wide.
    """

    corruption: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.corruption < 1:
            raise ConfigError(f"corruption must be in [0, 1), got {self.corruption}")


class CDAE(Recommender):
    """z_u = sigmoid(sum_{i in P_u} W1_i + b1 + v_u), score(u, i) = <z_u, W2_i> + b2_i, with P_u the training items.

    In training each item of P_u stays with probability 1 - corruption and then weighs 1 / (1 - corruption).
    ``encoder`` W1 and ``decoder`` W2 Float[Tensor, "N D"], ``user_embedding`` v Float[Tensor, "U D"], ``hidden_bias``
    Float[Tensor, "D"], ``item_bias`` Float[Tensor, "N"]. A bias is a column: the tables are [z_u, 1] and [W2_i, b2_i],
    D + 1 wide, so every op and every index ranks with it. The paper puts a sigmoid around the score, which ranks alike
    and is part of the cross entropy. Trained on the cross entropy of positives and negatives; each
    row of a batch is an interaction, and its user is encoded with a corruption of its own.
    """

    def __init__(
        self,
        user_embedding: nn.Parameter,
        encoder: nn.Parameter,
        decoder: nn.Parameter,
        history: History,
        config: CDAEConfig,
    ) -> None:
        super().__init__()
        self.user_embedding, self.encoder, self.decoder = user_embedding, encoder, decoder
        self.hidden_bias = nn.Parameter(torch.zeros(encoder.shape[1]))
        self.item_bias = nn.Parameter(torch.zeros(len(decoder)))
        self.history, self.config = history, config
        self.num_users, self.num_items = len(user_embedding), len(decoder)
        self.dim = encoder.shape[1] + 1

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, seeds: Seeds) -> CDAE:
        """Return a fresh model over the interactions of ``train``; N(0, 1 / dim) is ours, the sources state none."""
        dim, std = config.dim, config.init_std or config.dim**-0.5
        users = normal_parameter(seeds, "init/users", train.num_users, dim, std)
        encoder = normal_parameter(seeds, "init/encoder", train.num_items, dim, std)
        decoder = normal_parameter(seeds, "init/decoder", train.num_items, dim, std)
        return cls(users, encoder, decoder, History(train), options_of(config, CDAEConfig))

    def tables(self) -> EncodedTables:
        """Return the output layer with its bias as the last column, and what makes user vectors."""
        return EncodedTables(self.encode, self.num_users, torch.cat([self.decoder, self.item_bias[:, None]], dim=1))

    def encode(self, users: Tensor) -> Tensor:
        """Return the vectors of ``users`` Int64[B], Float[B, D + 1]; the input is corrupted in train mode."""
        keep = 1 - self.config.corruption if self.training else 1.0
        summed = self.history.sums(users, self.encoder, keep=keep)
        return _hidden(functional.embedding(users, self.user_embedding), summed, self.hidden_bias)

    def user_tower(self) -> CDAETower:
        """Return what makes the vector of a user from his items."""
        return CDAETower(self)

    def row_losses(self, tables: Tables, batch: Batch, *, epoch: int = 0, step: int = 0) -> Tensor:
        """Return the binary cross entropy of each row's positive and negatives, summed, Float[B]."""
        return bce_rows(tables, batch)

    def options(self) -> Mapping[str, Any]:
        """Return the options: they decide what is learned."""
        return asdict(self.config)


class CDAETower(HistoryTower):
    """[sigmoid(sum_{i in history} W1_i + b1 + v_u), 1]."""

    hidden_bias: Tensor

    def __init__(self, model: CDAE) -> None:
        super().__init__(model.user_embedding, model.encoder)
        self.register_buffer("hidden_bias", model.hidden_bias.detach().cpu().clone())

    def vectors(self, own: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """Return the hidden layer and a 1 for the items' bias."""
        return _hidden(own, sums, self.hidden_bias)


def _hidden(own: Tensor, sums: Tensor, bias: Tensor) -> Tensor:
    return functional.pad(torch.sigmoid(sums + bias + own), (0, 1), value=1.0)


MODELS.add("cdae", CDAE.build)
