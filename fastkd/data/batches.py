"""Training batches: a permutation of the interactions per epoch, cut into steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import DataError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.data.batch import Batch


def num_batches(train: Interactions, batch_size: int) -> int:
    """Return the number of steps of an epoch; the last batch may be short."""
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1, got {batch_size}")
    return -(-train.nnz // batch_size)


def batches(
    train: Interactions,
    *,
    negatives: NDArray[Any] | Tensor,
    batch_size: int,
    seeds: Seeds,
    epoch: int,
    start_step: int = 0,
    by_user: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of one epoch, from step ``start_step`` on.

    The order is a permutation that is a pure function of (seeds, epoch); ``start_step`` skips without cost,
    so a resumed epoch continues with exactly the batches it had not seen. ``negatives`` Int[nnz, n] is parallel to
    ``train.indices``. Every interaction comes once; the last batch may be short. ``by_user``: see :func:`grouped`.
    """
    steps = num_batches(train, batch_size)
    drawn = negatives.detach().cpu().numpy() if isinstance(negatives, Tensor) else np.asarray(negatives)
    if drawn.ndim != 2 or len(drawn) != train.nnz:
        raise DataError(f"negatives must have shape [{train.nnz}, n], one row per interaction, got {drawn.shape}")
    if drawn.dtype.kind not in "iu":
        raise DataError(f"negatives must be integers, got dtype {drawn.dtype}")
    if not 0 <= start_step <= steps:
        raise DataError(f"start_step must be in [0, {steps}], got {start_step}")
    if epoch < 0:
        raise DataError(f"epoch must not be negative, got {epoch}")
    order = seeds.numpy("shuffle", epoch).permutation(train.nnz)
    if by_user:
        order = order[grouped(train.entry_users()[order], train.num_users, seeds, epoch)]
    return _steps(train, drawn, batch_size, order, start_step)


def grouped(users: NDArray[Any], num_users: int, seeds: Seeds, epoch: int) -> NDArray[np.int64]:
    """Return the order of rows that puts those of one user next to each other, users in random order.

    For models that read a user's whole sequence at once: a batch then holds few users with all their rows. The order
    of users is a pure function of (seeds, epoch).
    """
    places = seeds.numpy("shuffle/users", epoch).permutation(num_users)
    return np.argsort(places[users], kind="stable")


def _steps(
    train: Interactions, negatives: NDArray[Any], batch_size: int, order: NDArray[np.int64], start: int
) -> Iterator[Batch]:
    users = train.entry_users()
    for a in range(start * batch_size, len(order), batch_size):
        entries = order[a : a + batch_size]
        yield Batch(
            torch.from_numpy(entries.astype(np.int64)),
            torch.from_numpy(users[entries].astype(np.int64)),
            torch.from_numpy(train.indices[entries].astype(np.int64)),
            torch.from_numpy(negatives[entries].astype(np.int64)),
        )
