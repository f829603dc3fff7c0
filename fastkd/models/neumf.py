"""NeuMF: a generalised matrix factorisation and a small network side by side.

He et al., "Neural collaborative filtering" (WWW'17).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.data.batch import Batch
from fastkd.models._layers import linear
from fastkd.models.config import MODELS, ModelConfig, normal_parameter, options_of
from fastkd.models.pairs import PairRecommender
from fastkd.models.protocol import Tables, bce_rows

INIT_STD = 0.01
"""Published standard deviation of the initial vectors."""


@dataclass(frozen=True, kw_only=True)
class NeuMFConfig:
    """Options of NeuMF. ``hidden``: layers of the network, each half as wide as what it reads (2 dim at first).

    The default is that of the published distillation studies (Kang et al., CIKM'20: one layer, teacher 250 wide and
    student 25); the paper has 3, vectors of 8 to 64 and four negatives (``training.negatives=4``).
    """

    hidden: int = 1

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ConfigError(f"hidden must be at least 1, got {self.hidden}")


class NeuMF(PairRecommender):
    """score(u, i) = <w, p_u * q_i> + <v, MLP([p'_u; q'_i])> + b.

    The two parts have tables of their own, Float[Tensor, "U D"] and Float[Tensor, "N D"] each, N(0, 0.01^2) at the
    start; the MLP has ReLU after every layer. Trained on the binary cross entropy of positives and negatives.
    """

    def __init__(self, tables: nn.ParameterDict, tower: nn.ModuleList, output: nn.Linear) -> None:
        super().__init__()
        self.embeddings, self.tower, self.output = tables, tower, output
        self.num_users, self.dim = tables["gmf_users"].shape
        self.num_items = len(tables["gmf_items"])
        self.pair_width = 4 * self.dim

    @classmethod
    def build(cls, config: ModelConfig, train: Interactions, seeds: Seeds) -> NeuMF:
        """Return a fresh model over the users and items of ``train``."""
        chosen, dim, std = options_of(config, NeuMFConfig), config.dim, config.init_std or INIT_STD
        widths = [max(1, 2 * dim >> depth) for depth in range(chosen.hidden + 1)]
        tables = {
            f"{part}_{side}": normal_parameter(seeds, f"init/{part}_{side}", rows, dim, std)
            for part in ("gmf", "mlp")
            for side, rows in (("users", train.num_users), ("items", train.num_items))
        }
        layers = [linear(seeds, f"init/tower/{i}", widths[i], widths[i + 1]) for i in range(chosen.hidden)]
        output = linear(seeds, "init/output", dim + widths[-1], 1)
        return cls(nn.ParameterDict(tables), nn.ModuleList(layers), output)

    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores of ``users`` Int64[...] and ``items`` Int64[...], broadcast."""
        tables, dim = self.embeddings, self.dim
        product = functional.embedding(users, tables["gmf_users"]) * functional.embedding(items, tables["gmf_items"])
        first = self.tower[0]
        assert isinstance(first, nn.Linear)
        # The first layer reads [p; q]: its halves apart, each user and each item goes through it once.
        left = functional.linear(functional.embedding(users, tables["mlp_users"]), first.weight[:, :dim], first.bias)
        right = functional.linear(functional.embedding(items, tables["mlp_items"]), first.weight[:, dim:])
        hidden = torch.relu(left + right)
        for layer in self.tower[1:]:
            hidden = torch.relu(layer(hidden))
        weight = self.output.weight[0].to(product.dtype)
        return product @ weight[:dim] + (hidden @ weight[dim:].to(hidden.dtype)) + self.output.bias

    def row_losses(self, tables: Tables, batch: Batch, *, epoch: int = 0, step: int = 0) -> Tensor:
        """Return the binary cross entropy of each row's positive and negatives, summed, Float[B]."""
        return bce_rows(tables, batch)


MODELS.add("neumf", NeuMF.build)
