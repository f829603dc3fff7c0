"""DeepFM: a factorisation machine and a network over the same vectors.

Guo et al., "DeepFM: a factorization-machine based neural network for CTR prediction" (IJCAI'17).
"""

from __future__ import annotations

import itertools
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
from fastkd.models._layers import dropout, linear
from fastkd.models.config import MODELS, ModelConfig, normal_parameter, options_of
from fastkd.models.pairs import PairRecommender
from fastkd.models.protocol import Tables, bce_rows


@dataclass(frozen=True, kw_only=True)
class DeepFMConfig:
    """Options of DeepFM; the defaults are the paper's on Criteo.

    ``hidden``: widths of the network's layers, 400-400-400, with ReLU. ``dropout``: after each of them, 0.5 (in its own
    study a unit kept with 0.6 to 0.9 did best, so 0.1 to 0.4 here). What is set elsewhere: vectors 10 wide
    (``model.dim=10``), Adam (the trainer's); the paper has no L2 term (``training.weight_decay=0``) and states neither
    the first weights nor a learning rate.
    """

    hidden: tuple[int, ...] = (400, 400, 400)
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden must be one or more widths of at least 1, got {list(self.hidden)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), got {self.dropout}")


class DeepFM(PairRecommender):
    """score(u, i) = w0 + w_u + w_i + <e_u, e_i> + MLP([e_u; e_i]): the two fields are the user and the item.

    With two fields the pairwise term of a factorisation machine, (|e_u + e_i|^2 - |e_u|^2 - |e_i|^2) / 2, is their
    inner product. ``user_embedding`` Float[Tensor, "U D"], ``item_embedding`` Float[Tensor, "N D"], with the spread of
    Xavier's rule, sqrt(2 / (rows + D)), unless ``init_std`` says (ours); weights w start at 0. The MLP is [Linear,
    Dropout, ReLU]* (dropout and ReLU may change places), then Linear(., 1). The paper's formula has no w0, which ranks
    alike. Trained on the binary cross entropy of positives and negatives.
    """

    def __init__(
        self, user_embedding: nn.Parameter, item_embedding: nn.Parameter, layers: nn.ModuleList, config: DeepFMConfig
    ) -> None:
        super().__init__()
        self.user_embedding, self.item_embedding, self.layers, self.config = (
            user_embedding, item_embedding, layers, config,
        )  # fmt: skip
        self.num_users, self.dim = user_embedding.shape
        self.num_items = len(item_embedding)
        self.user_weight = nn.Parameter(torch.zeros(self.num_users, 1))
        self.item_weight = nn.Parameter(torch.zeros(self.num_items, 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.pair_width = self.dim + 2 * max(config.hidden)

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, seeds: Seeds) -> DeepFM:
        """Return a fresh model over the users and items of ``train``."""
        chosen, dim = options_of(config, DeepFMConfig), config.dim
        tables = [
            normal_parameter(seeds, f"init/{name}", rows, dim, config.init_std or (2 / (rows + dim)) ** 0.5)
            for name, rows in (("users", train.num_users), ("items", train.num_items))
        ]
        widths = [2 * dim, *chosen.hidden, 1]
        layers = [linear(seeds, f"init/layer/{i}", a, b) for i, (a, b) in enumerate(itertools.pairwise(widths))]
        return cls(tables[0], tables[1], nn.ModuleList(layers), chosen)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores of ``users`` Int64[...] and ``items`` Int64[...], broadcast."""
        left, right = functional.embedding(users, self.user_embedding), functional.embedding(items, self.item_embedding)
        alone = functional.embedding(users, self.user_weight) + functional.embedding(items, self.item_weight)
        first, dim = self.layers[0], self.dim
        assert isinstance(first, nn.Linear)
        # The first layer reads [e_u; e_i]: its halves apart, each user and each item goes through it once.
        hidden = functional.linear(left, first.weight[:, :dim], first.bias)
        hidden = hidden + functional.linear(right, first.weight[:, dim:])
        for layer in self.layers[1:]:
            hidden = layer(torch.relu(dropout(hidden, self.config.dropout, self.training)))
        return self.bias + alone.squeeze(-1) + (left * right).sum(-1) + hidden.squeeze(-1)

    def row_losses(self, tables: Tables, batch: Batch, *, epoch: int = 0, step: int = 0) -> Tensor:
        """Return the binary cross entropy of each row's positive and negatives, summed, Float[B]."""
        return bce_rows(tables, batch)

    def options(self) -> Mapping[str, Any]:
        """Return the options: they decide what is learned."""
        return {**asdict(self.config), "hidden": list(self.config.hidden)}


MODELS.add("deepfm", DeepFM.build)
