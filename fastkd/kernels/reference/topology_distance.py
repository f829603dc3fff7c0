"""How far two sets of vectors are from having the same cosines: the truth in plain torch, n x n and all."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

EPSILON = 1e-12
"""Shortest length that a vector is divided by: a vector of zeros has cosine 0 with all others."""


def topology_distance(
    student: Tensor, teacher: Tensor, weights: Tensor | None, groups: Tensor | None, positive_only: bool
) -> tuple[Tensor, Tensor]:
    """Return ``sum_{ij} m_ij (cos(t_i, t_j) - cos(s_i, s_j))^2`` and ``sum_ij m_ij``, over all ordered pairs.

    ``m_ij = w_i w_j [c_i = c_j] [cos(t_i, t_j) > 0]``, the brackets only where ``groups`` c and ``positive_only`` ask
    for them. ``student`` [n, S]; ``teacher`` [n, T]; ``weights`` w [n]; ``groups`` Int64[n]. In float32 at least.
    """
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    student, teacher = student.to(dtype), teacher.to(dtype)
    s, t = functional.normalize(student, eps=EPSILON), functional.normalize(teacher.detach(), eps=EPSILON)
    wanted = t @ t.T
    mask = torch.ones_like(wanted) if weights is None else weights[:, None] * weights[None, :]
    if groups is not None:
        mask = mask * (groups[:, None] == groups[None, :])
    if positive_only:
        mask = mask * (wanted > 0)
    return (mask * (wanted - s @ s.T).square()).sum(), mask.sum()


def prototype_distance(
    student: Tensor, teacher: Tensor, groups: Tensor, count: int, weights: Tensor | None, exclude_own: bool,
    prototype_gradient: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return ``sum_{kj} m_kj (cos(P^t_k, t_j) - cos(P^s_k, s_j))^2`` and ``sum_kj m_kj``.

    ``P_k = sum_{c_j = k} w_j x_j / sum_{c_j = k} w_j``, a constant for the student too unless ``prototype_gradient``;
    k runs over the groups with a member of weight above 0. ``m_kj = w_j``, 0 for j's own group with ``exclude_own``.
    """
    w = torch.ones_like(student[:, 0]) if weights is None else weights.to(student.dtype)
    own = functional.one_hot(groups, count).to(student.dtype)
    members = own * w[:, None]
    sizes = members.sum(0)
    wanted = _cosines(teacher.detach(), members, sizes, False)
    found = _cosines(student, members, sizes, prototype_gradient)
    mask = (sizes > 0).to(student.dtype)[:, None] * w[None, :]
    if exclude_own:
        mask = mask * (1.0 - own.T)
    return (mask * (wanted - found).square()).sum(), mask.sum()


def _cosines(x: Tensor, members: Tensor, sizes: Tensor, gradient: bool) -> Tensor:
    """Return cos(P_k, x_j), [K, n]; a group without members has prototype 0."""
    source = x if gradient else x.detach()
    prototypes = (members.T.to(x.dtype) @ source) / sizes.to(x.dtype).clamp(min=EPSILON)[:, None]
    return functional.normalize(prototypes, eps=EPSILON) @ functional.normalize(x, eps=EPSILON).T
