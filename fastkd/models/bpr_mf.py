"""BPR-MF: one free vector per user and per item.

Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback" (UAI'09).
"""

from __future__ import annotations

from torch import nn

from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.models.config import MODELS, ModelConfig, NoOptions, normal_parameter, options_of
from fastkd.models.protocol import Recommender, Tables

INIT_STD = 0.01
"""Published standard deviation of the initial vectors."""


class BPRMF(Recommender):
    """score(u, i) = <p_u, q_i>, no bias; p, q ~ N(0, 0.01^2) at the start.

    ``user_embedding``: Float[Tensor, "U D"], ``item_embedding``: Float[Tensor, "N D"].
    """

    def __init__(self, user_embedding: nn.Parameter, item_embedding: nn.Parameter) -> None:
        super().__init__()
        self.user_embedding = user_embedding
        self.item_embedding = item_embedding
        self.num_users, self.dim = user_embedding.shape
        self.num_items = len(item_embedding)

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, seeds: Seeds) -> BPRMF:
        """Return a fresh model over the users and items of ``train``."""
        options_of(config, NoOptions)
        std = config.init_std or INIT_STD
        return cls(
            normal_parameter(seeds, "init/users", train.num_users, config.dim, std),
            normal_parameter(seeds, "init/items", train.num_items, config.dim, std),
        )

    def tables(self) -> Tables:
        """Return the two parameters themselves; nothing is copied."""
        return Tables(self.user_embedding, self.item_embedding)


MODELS.add("bpr_mf", BPRMF.build)
