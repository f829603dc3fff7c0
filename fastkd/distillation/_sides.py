"""The two sides of a matrix of interactions: what is done for users over items, done for items over users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.distillation.entities import Entities, weighted_entities
from fastkd.models.teacher import EmbeddingTeacher, Teacher

BLOCK = 8192
"""Rows (users, or items on their side) refreshed at a time, to bound what a refresh holds beside its result."""


def flipped(teacher: Teacher) -> EmbeddingTeacher:
    """Return the teacher of the transposed problem, which ranks users for items; one of lists is refused."""
    tables = teacher.tables()
    return EmbeddingTeacher(tables.items, tables.users)


def stretches(rows: int, size: int) -> Iterator[range]:
    """Cut ``range(rows)`` into stretches of at most ``size``."""
    return (range(start, min(start + size, rows)) for start in range(0, rows, size))


def listed(lists: list[Tensor]) -> Entities:
    """Return the distinct ids of padded lists, ascending; padding and empty slots have id -1 and weight 0."""
    ids, weights = weighted_entities([torch.cat([x.reshape(-1) for x in lists])])
    real = (weights > 0) & (ids >= 0)
    return Entities(torch.where(real, ids, -1), real.to(weights.dtype))


def reduced(values: Tensor, weights: Tensor, reduction: str) -> Tensor:
    """Return the sum of ``values * weights``, or with ``"mean"`` that over the number of weights that are not 0."""
    total = (values * weights).sum()
    return total if reduction == "sum" else total / (weights > 0).sum().clamp(min=1)


def with_lists(train: Interactions, lists: Tensor) -> Interactions:
    """Return the pairs of ``train`` and those of each user's list Int[U, L], padded with -1."""
    rows, pointers = [], [np.zeros(1, dtype=np.int64)]
    for block in stretches(train.num_users, BLOCK):
        seen = train.rows(np.arange(block.start, block.stop))
        more = lists[block.start : block.stop].cpu().numpy()
        user, slot = np.nonzero(more >= 0)
        listed = Interactions.from_pairs(user, more[user, slot], num_users=len(block), num_items=train.num_items)
        both = seen.union(listed)
        rows.append(both.indices)
        pointers.append(both.indptr[1:] + pointers[-1][-1])
    return Interactions(np.concatenate(pointers), np.concatenate(rows), train.num_items)
