"""Divergence of a student's softmax over a whole catalogue from a teacher's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fastkd.kernels.reference._catalogue import catalogue_scores


def catalogue_divergence(
    users: Tensor,
    items: Tensor,
    teacher_users: Tensor,
    teacher_items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    *,
    kind: str,
    scale: float,
) -> Tensor:
    """Return Float[B]; makes [B, N]. See :func:`fastkd.ops.catalogue_divergence`."""
    student = catalogue_scores(users, items, bounds, indices, None, scale)
    teacher = catalogue_scores(teacher_users, teacher_items, bounds, indices, None, scale)
    dtype = torch.promote_types(student.dtype, teacher.dtype)
    student, teacher = student.to(dtype), teacher.to(dtype)
    excluded = student == -torch.inf
    # Excluded items get a finite score far from any other's: probability 0 without 0 * inf.
    log_p, log_q = (_log_softmax(t, excluded) for t in (student, teacher))
    p, q = (torch.where(excluded, 0, t.exp()) for t in (log_p, log_q))
    if kind == "cross_entropy":
        return -(q * log_p).sum(1)
    if kind == "forward_kl":
        return (q * (log_q - log_p)).sum(1)
    if kind == "reverse_kl":
        return (p * (log_p - log_q)).sum(1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (p * (log_p - log_m) + q * (log_q - log_m)).sum(1) / 2


def _log_softmax(scores: Tensor, excluded: Tensor) -> Tensor:
    """Return log-probabilities, 0 where an item is excluded."""
    empty = excluded.all(1, keepdim=True)
    return scores.masked_fill(empty, 0).log_softmax(1).masked_fill(excluded, 0)
