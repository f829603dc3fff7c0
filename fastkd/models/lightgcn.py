"""LightGCN: vectors averaged over the layers of a linear propagation on the train graph.

He et al., "LightGCN: simplifying and powering graph convolution network for recommendation" (SIGIR'20).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.models.config import MODELS, ModelConfig, NoOptions, normal_parameter, options_of
from fastkd.models.graph import BipartiteGraph
from fastkd.models.protocol import Recommender, Tables

INIT_STD = 0.1
"""Published standard deviation of the initial vectors."""


class LightGCN(Recommender):
    """X = mean_{l=0..L} A^l X0 with A the normalised bipartite train graph; score(u, i) = <x_u, x_i>.

    ``user_embedding`` Float[Tensor, "U D"] and ``item_embedding`` Float[Tensor, "N D"] are X0 and all there is to
    save: the graph is rebuilt from the training interactions. Without neighbours a node keeps X0 / (L + 1).
    """

    def __init__(
        self, user_embedding: nn.Parameter, item_embedding: nn.Parameter, graph: BipartiteGraph, layers: int
    ) -> None:
        super().__init__()
        self.user_embedding = user_embedding
        self.item_embedding = item_embedding
        self.graph = graph
        self.layers = layers
        self.num_users, self.dim = user_embedding.shape
        self.num_items = len(item_embedding)

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, seeds: Seeds) -> LightGCN:
        """Return a fresh model over the graph of ``train``."""
        options_of(config, NoOptions)
        std = config.init_std or INIT_STD
        return cls(
            normal_parameter(seeds, "init/users", train.num_users, config.dim, std),
            normal_parameter(seeds, "init/items", train.num_items, config.dim, std),
            BipartiteGraph(train),
            config.layers,
        )

    def options(self) -> dict[str, Any]:
        """Return the number of layers, which no parameter shows."""
        return {"layers": self.layers}

    def tables(self) -> Tables:
        """Return the propagated vectors: ``layers`` sparse products forward, as many backward."""
        layer = torch.cat([self.user_embedding, self.item_embedding])
        total = layer
        for _ in range(self.layers):
            layer = self.graph(layer)
            total = total + layer
        mean = total / (self.layers + 1)
        return Tables(mean[: self.num_users], mean[self.num_users :])


MODELS.add("lightgcn", LightGCN.build)
