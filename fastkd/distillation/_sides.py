"""The two sides of a matrix of interactions: what is done for users over items, done for items over users."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

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
