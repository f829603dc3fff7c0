"""What the methods that match vectors share: the teacher's tables, the sets of entities, the error of a guess."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from fastkd.core.interactions import Interactions
from fastkd.data.batch import Batch
from fastkd.distillation.checks import device_of, same_shape
from fastkd.distillation.cost import Shape, distinct
from fastkd.distillation.entities import Entities, Reduction, weighted_entities
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

Kind = Literal["user", "item"]
KINDS: tuple[Kind, ...] = ("user", "item")


def teacher_vectors(teacher: Teacher, student: Recommender, train: Interactions) -> Tables:
    """Return the teacher's vectors on the student's device; one of lists, or of other shapes, is refused."""
    tables = teacher.tables()
    same_shape(teacher, student, train)
    device = device_of(student)
    return Tables(tables.users.to(device), tables.items.to(device))


def entities_of(kind: Kind, batch: Batch, reduction: Reduction) -> Entities:
    """Return the distinct users, or items: those of positives and of negatives have weight 1/2, of both 1."""
    if kind == "user":
        return weighted_entities([batch.users], reduction=reduction)
    return weighted_entities([batch.positives, batch.negatives], factors=(0.5, 0.5), reduction=reduction)


def members_of(kind: Kind, batch: Batch, reduction: Reduction = "sum") -> Entities:
    """Return the distinct users, or the distinct items as one set: each has weight 1 (``mean``: 1 / their number)."""
    if kind == "user":
        return weighted_entities([batch.users], reduction=reduction)
    entities = weighted_entities([batch.positives, batch.negatives], factors=(1.0, 1.0))
    weights = (entities.weights > 0).to(entities.weights.dtype)
    return Entities(entities.ids, weights / weights.sum().clamp(min=1.0) if reduction == "mean" else weights)


def student_rows(kind: Kind, tables: Tables, ids: Tensor) -> Tensor:
    """Return the student's vectors Float[n, S], differentiable."""
    return tables.user_vectors(ids) if kind == "user" else tables.item_vectors(ids)


def teacher_rows(kind: Kind, tables: Tables, ids: Tensor) -> Tensor:
    """Return the teacher's vectors Float[n, T]."""
    return functional.embedding(ids, tables.users if kind == "user" else tables.items)


def squared_error(wanted: Tensor, guess: Tensor, weights: Tensor) -> Tensor:
    """Return ``sum_e w_e |t_e - y_e|^2``, Float[]."""
    total: Tensor = ((wanted - guess).square().sum(dim=1) * weights).sum()
    return total


def expected_entities(at: Shape) -> float:
    """Return the distinct users and items expected in a batch with one negative a row."""
    return at.batch_users + distinct(2 * at.batch, at.items)
