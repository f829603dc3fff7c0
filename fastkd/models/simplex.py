"""SimpleX: cosines of users and items under a contrastive loss with many negatives.

Mao et al., "SimpleX: a simple and strong baseline for collaborative filtering" (CIKM'21).
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
from fastkd.models._layers import dropout, linear
from fastkd.models.config import MODELS, ModelConfig, normal_parameter, options_of
from fastkd.models.encoded import EncodedTables, History
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.towers import HistoryTower, frozen

INIT_STD = 1e-4
"""Published standard deviation of the initial vectors."""


@dataclass(frozen=True, kw_only=True)
class SimpleXConfig:
    """Options of SimpleX; the defaults are the authors' (their configurations choose ``margin`` in 0.1 to 0.9).

    ``gamma``: share of the user's own vector beside the mean of the history. ``margin``: m, of negatives.
    ``weight``: w, of the mean over negatives. ``drawn``: negatives of each row, uniform over the whole catalogue
    (positives included), drawn anew at every step; 0 takes those of the trainer. ``dropout``: of user vectors.
    Published training: a mean over rows (``training.reduction=mean``), Adam at 1e-4, batches of 256 to 512.
    """

    gamma: float = 0.5
    margin: float = 0.5
    weight: float = 100.0
    drawn: int = 1000
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, value, most in (("gamma", self.gamma, 1.0), ("dropout", self.dropout, 0.999)):
            if not 0 <= value <= most:
                raise ConfigError(f"{name} must be in [0, {most}], got {value}")
        if not -1 <= self.margin <= 1:
            raise ConfigError(f"margin must be in [-1, 1], got {self.margin}")
        if not 0 <= self.weight < float("inf"):
            raise ConfigError(f"weight must be a number of at least 0, got {self.weight}")
        if self.drawn < 0:
            raise ConfigError(f"drawn must be at least 0, got {self.drawn}")


class SimpleX(Recommender):
    """score(u, i) = cos(gamma p_u + (1 - gamma) W mean_{j in P_u} q_j, q_i), with P_u the training items.

    ``user_embedding`` Float[Tensor, "U D"], ``item_embedding`` Float[Tensor, "N D"], ``mix`` W without bias. The
    tables hold vectors of length 1, so the score is their inner product; a user vector is made when asked for. The
    authors cap a history at 500 items, because they pad; here it is whole. Trained on the cosine contrastive loss.
    """

    def __init__(
        self,
        user_embedding: nn.Parameter,
        item_embedding: nn.Parameter,
        mix: nn.Linear,
        history: History,
        config: SimpleXConfig,
        seeds: Seeds,
    ) -> None:
        super().__init__()
        self.user_embedding, self.item_embedding, self.mix, self.history = user_embedding, item_embedding, mix, history
        self.config, self._seeds = config, seeds
        self.num_users, self.dim = user_embedding.shape
        self.num_items = len(item_embedding)

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, seeds: Seeds) -> SimpleX:
        """Return a fresh model over the histories of ``train``."""
        std = config.init_std or INIT_STD
        return cls(
            normal_parameter(seeds, "init/users", train.num_users, config.dim, std),
            normal_parameter(seeds, "init/items", train.num_items, config.dim, std),
            linear(seeds, "init/mix", config.dim, config.dim, bias=False),
            History(train),
            options_of(config, SimpleXConfig),
            seeds,
        )

    def tables(self) -> EncodedTables:
        """Return the item vectors, and what makes user vectors; both of length 1."""
        return EncodedTables(self.encode, self.num_users, functional.normalize(self.item_embedding, dim=1))

    def encode(self, users: Tensor) -> Tensor:
        """Return the vectors of ``users`` Int64[B], Float[B, D], with dropout in train mode."""
        config = self.config
        counts, sums = self.history.lengths(users).unsqueeze(1), self.history.sums(users, self.item_embedding)
        own = functional.embedding(users, self.user_embedding)
        return dropout(_mixed(own, sums, counts, self.mix, config.gamma), config.dropout, self.training)

    def user_tower(self) -> SimpleXTower:
        """Return what makes the vector of a user from his items."""
        return SimpleXTower(self)

    def row_losses(self, tables: Tables, batch: Batch, *, epoch: int = 0, step: int = 0) -> Tensor:
        """Return the cosine contrastive loss ``max(0, 1 - s_ui) + w mean_j max(0, s_uj - m)`` of each row, Float[B].

        Negatives are a function of (seed, epoch, step); the trainer's, with ``drawn=0``, may hold padding (-1).
        """
        negatives, config = batch.negatives, self.config
        if config.drawn:
            random = self._seeds.torch("simplex/negatives", epoch, step, device=str(batch.users.device))
            shape = (len(batch), config.drawn)
            negatives = torch.randint(self.num_items, shape, generator=random, device=batch.users.device)
        scores = tables.scores(batch.users, torch.cat([batch.positives[:, None], negatives], dim=1))
        known = (negatives >= 0).sum(1).clamp(min=1)
        pushed = torch.relu(scores[:, 1:] - config.margin).sum(1) / known  # padding has score -inf, so 0
        return torch.relu(1 - scores[:, 0]) + config.weight * pushed

    def options(self) -> Mapping[str, Any]:
        """Return the options: they decide scores and losses."""
        return {**asdict(self.config), "seed": self._seeds.root}


class SimpleXTower(HistoryTower):
    """gamma p_u + (1 - gamma) W mean(q of the history), of length 1."""

    def __init__(self, model: SimpleX) -> None:
        super().__init__(model.user_embedding, model.item_embedding)
        self.mix, self.gamma = frozen(model.mix), model.config.gamma

    def vectors(self, own: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """Return the mixture of both."""
        return _mixed(own, sums, counts, self.mix, self.gamma)


def _mixed(own: Tensor, sums: Tensor, counts: Tensor, mix: nn.Module, gamma: float) -> Tensor:
    return functional.normalize(gamma * own + (1 - gamma) * mix(sums / counts.clamp(min=1)), dim=1)


MODELS.add("simplex", SimpleX.build)
