r"""Synthetic catalogues with planted tastes, whose best ranking is known.

Each item i lies in one cluster c(i) and one style s(i) (one style by default) and has a long-tailed popularity
w_i; each user u has a mixture pi_u over clusters and rho_u over styles. The next item of u is drawn from

    P(i | u) = pi_u[c(i)] * rho_u[s(i)] * w_i / W_{c(i), s(i)},        W_{c, s} = sum of w_j over the cell (c, s)

and a user's items are distinct (repeats are drawn again). Noise lives inside the mixtures,
pi_u = (1 - noise) softmax(z_u / temperature) + noise / C, so that log P stays an inner product,

    log P(i | u) = < [log pi_u, log rho_u, 1], [onehot c(i), onehot s(i), log(w_i / W)] >,

and the oracle pair of tables ranks by P exactly (up to float32 rounding). Ranking the unseen items by P is the best
possible for held-out items of the same user. Every draw is a pure function of (seed, user, slot).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.interactions import Interactions, id_dtype
from fastkd.core.seeds import Seeds
from fastkd.data.dataset import Dataset, IdMap
from fastkd.data.planted import PlantedItems, SyntheticConfig, draw, plant_items, user_activity, user_mixture
from fastkd.data.splits import random_split


@dataclass(frozen=True)
class OracleTables:
    """Vectors whose inner product is log P(item | user) up to a constant of the user.

    ``users`` Float32[U, D], ``items`` Float32[N, D]; D = C + 1, or C + S + 1 with S > 1 styles.
    """

    users: Tensor
    items: Tensor


@dataclass(frozen=True)
class SyntheticDataset:
    """A synthetic data set with the tables that rank it best."""

    dataset: Dataset
    oracle: OracleTables
    config: SyntheticConfig


def synthetic_dataset(config: SyntheticConfig, *, chunk_users: int | None = None) -> SyntheticDataset:
    """Draw the data set; ``chunk_users`` bounds memory and does not change the result."""
    seeds = Seeds(config.seed).child("synthetic")
    items = plant_items(config, seeds)
    chunk = chunk_users or max(
        1, min(config.num_users, (1 << 21) // max(config.interactions_per_user, config.num_clusters))
    )
    vectors = np.empty((config.num_users, _dim(config)), dtype=np.float32)
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for start in range(0, config.num_users, chunk):
        users = np.arange(start, min(start + chunk, config.num_users))
        tastes = [user_mixture(config, seeds, users, "cluster", config.num_clusters)]
        if config.num_styles > 1:
            tastes.append(user_mixture(config, seeds, users, "style", config.num_styles))
        vectors[users] = np.concatenate([np.log(t) for t in tastes] + [np.ones((len(users), 1))], axis=1)
        counts = user_activity(config, seeds, users)
        rows, drawn = draw(config, seeds, users, counts, tastes, items)
        pairs.append((rows.astype(id_dtype(config.num_users)), drawn.astype(id_dtype(config.num_items))))
    dataset = _split(config, seeds, pairs)
    return SyntheticDataset(dataset, OracleTables(torch.from_numpy(vectors), _item_table(config, items)), config)


def _dim(config: SyntheticConfig) -> int:
    return config.num_clusters + (config.num_styles if config.num_styles > 1 else 0) + 1


def _item_table(config: SyntheticConfig, items: PlantedItems) -> Tensor:
    table = np.zeros((config.num_items, _dim(config)), dtype=np.float32)
    rows = np.arange(config.num_items)
    table[rows, items.cells // config.num_styles] = 1
    if config.num_styles > 1:
        table[rows, config.num_clusters + items.cells % config.num_styles] = 1
    table[:, -1] = items.log_share
    return torch.from_numpy(table)


def _split(config: SyntheticConfig, seeds: Seeds, pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> Dataset:
    parts: list[list[tuple[NDArray[Any], NDArray[Any]]]] = [[], [], []]
    for users, items in pairs:
        part = random_split(users.astype(np.int64), items.astype(np.int64), ratios=config.ratios, seeds=seeds)
        for code in range(3):
            parts[code].append((users[part == code], items[part == code]))
    built = [
        Interactions.from_pairs(
            np.concatenate([u for u, _ in chunks]),
            np.concatenate([i for _, i in chunks]),
            num_users=config.num_users,
            num_items=config.num_items,
        )
        for chunks in parts
    ]
    users_map, items_map = IdMap.identity(config.num_users), IdMap.identity(config.num_items)
    return Dataset(
        built[0], built[1], built[2], users_map, items_map, f"synthetic-{config.num_users}x{config.num_items}"
    )
