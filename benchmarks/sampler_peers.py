"""What others do for negatives outside a history: numpy, torch, RecBole and implicit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from fastkd.core import Interactions

Ids = NDArray[np.int64]


def with_numpy(train: Interactions, users: Ids, n: int) -> Callable[[], Ids]:
    """Draw all, then draw those again that binary search finds in a history."""
    keys = train.entry_users().astype(np.int64) * train.num_items + train.indices
    random = np.random.default_rng(0)
    rows = np.repeat(users, n) * train.num_items

    def draw() -> Ids:
        found = random.integers(0, train.num_items, len(rows))
        left = np.arange(len(rows))
        while len(left):
            wanted = rows[left] + found[left]
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            left = left[keys[at] == wanted]
            found[left] = random.integers(0, train.num_items, len(left))
        return found.reshape(len(users), n)

    return draw


def with_torch(train: Interactions, users: Ids, n: int) -> Callable[[], Ids]:
    """Do the same with torch."""
    keys = torch.from_numpy(train.entry_users().astype(np.int64) * train.num_items + train.indices)
    random = torch.Generator().manual_seed(0)
    rows = torch.from_numpy(np.repeat(users, n) * train.num_items)

    def draw() -> Ids:
        found = torch.randint(train.num_items, (len(rows),), generator=random)
        left = torch.arange(len(rows))
        while len(left):
            wanted = rows[left] + found[left]
            at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
            left = left[keys[at] == wanted]
            found[left] = torch.randint(train.num_items, (len(left),), generator=random)
        return found.reshape(len(users), n).numpy()

    return draw


def with_recbole(train: Interactions, users: Ids, n: int, folder: str) -> Callable[[], Ids]:
    """Run RecBole's own ``AbstractSampler.sample_by_key_ids``."""
    sys.path.insert(0, folder)
    from recbole.sampler.sampler import AbstractSampler  # type: ignore[import-not-found]

    class Sampler(AbstractSampler):  # type: ignore[misc]
        """What RecBole's own subclasses add: a uniform draw and the sets of used items."""

        def _uni_sampling(self, sample_num: int) -> Ids:
            return np.random.randint(0, train.num_items, sample_num)  # noqa: NPY002 - as RecBole does

        def get_used_ids(self) -> NDArray[Any]:
            return np.array([set(row.tolist()) for row in train])

    sampler = Sampler("uniform", 1.0)
    return lambda: sampler.sample_by_key_ids(users, n).numpy().reshape(n, -1).T


@numba.njit
def _by_count(indptr: Any, indices: Any, users: Any, found: Any) -> None:
    for row in range(len(users)):
        history = indices[indptr[users[row]] : indptr[users[row] + 1]]
        for slot in range(found.shape[1]):
            while True:
                item = indices[np.random.randint(len(indices))]  # noqa: NPY002 - numba's Mersenne twister
                at = np.searchsorted(history, item)
                if at == len(history) or history[at] != item:
                    break
            found[row, slot] = item


def with_implicit(train: Interactions, users: Ids, n: int) -> Callable[[], Ids]:
    """Do as implicit's BPR does: a Mersenne twister picks an entry of the interactions, binary search looks it up.

    So items come by their count (alpha = 1). Where the item is in the history implicit leaves out the update; this
    draws again.
    """
    found = np.empty((len(users), n), dtype=np.int64)

    def draw() -> Ids:
        _by_count(train.indptr, train.indices, users, found)
        return found

    return draw
