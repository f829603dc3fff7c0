"""Distances between the topologies of two sets of vectors, without the n x n matrices they are defined by.

Kang et al., "Topology distillation for recommender system" (KDD'21). Matrix products: torch's, on the CPU ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fastkd.kernels.reference import topology_distance as reference
from fastkd.ops._dispatch import choose, kernel
from fastkd.ops._library import handle, needs_gradient, once
from fastkd.ops.linear import linear

_ROWS = 1024
"""Rows of cosines held at a time: at most ``_ROWS`` x n of them."""
_BLOCK = 512
"""The same on the CPU."""
_SMALL = 1 << 18
"""Multiplications below which torch's product is quicker to call."""


class Distance(NamedTuple):
    """``loss``: the sum over pairs, Float[]; ``pairs``: their weights' sum, Float[], for a mean."""

    loss: Tensor
    pairs: Tensor


def topology_distance(
    student: Tensor,
    teacher: Tensor,
    *,
    weights: Tensor | None = None,
    groups: Tensor | None = None,
    positive_only: bool = False,
    backend: str = "auto",
) -> Distance:
    """Return ``sum_{ij} w_i w_j (cos(t_i, t_j) - cos(s_i, s_j))^2`` over all ordered pairs, and ``sum w_i w_j``.

    ``student`` Float[n, S], differentiable; ``teacher`` Float[n, T], a constant; ``weights`` w Float[n], not negative
    and a constant, 1 if left out;
    ``groups`` Int64[n]: pairs within a group only; ``positive_only``: pairs of positive teacher cosine only. A vector
    of zeros has cosine 0 with all.

    Over all pairs the sum is ``|T'T|^2 + |S'S|^2 - 2 |T'S|^2`` of the rows scaled by their length (and sqrt w): no
    cosine is made. Elsewhere cosines are made for at most 1024 rows at a time, on the CPU group by group and each pair
    once. The Gram form subtracts numbers near n^2: its value has an absolute error of about 1e-7 n^2, its gradient has
    none of that.

    Second derivatives are refused where cosines are made; ``backend="reference"`` has them, and gradients of weights.

    Raises ``ValueError`` for shapes that do not fit, a negative weight (on the CPU, where it is seen) or an unknown
    backend.
    """
    _check(student, teacher, weights, groups)
    if backend != "auto" and choose("topology_distance", backend, student.device.type) == "reference":
        return Distance(*reference.topology_distance(student, teacher, weights, groups, positive_only))
    if needs_gradient(weights):
        raise ValueError("weights are constants of this distance and get no gradient; pass weights.detach()")
    with torch.autocast(student.device.type, enabled=False):
        dtype = torch.promote_types(student.dtype, teacher.dtype)
        s, t = _unit(student.to(dtype)), _unit(teacher.detach().to(dtype))
        if groups is None and not positive_only:
            return _gram(s, t, weights)
        w = weights if weights is not None else torch.ones_like(s[:, 0])
        if groups is not None and s.device.type == "cpu":
            return _by_group(s, t, w.to(s.dtype), groups, positive_only)
        return _tiles(s, t, w.to(s.dtype), groups, positive_only)


def prototype_distance(
    student: Tensor,
    teacher: Tensor,
    *,
    groups: Tensor,
    count: int,
    weights: Tensor | None = None,
    exclude_own: bool = True,
    prototype_gradient: bool = False,
) -> Distance:
    """Return ``sum_{kj} m_kj (cos(P^t_k, t_j) - cos(P^s_k, s_j))^2``, and ``sum m_kj``.

    ``P_k``: weighted mean of group k's rows, k below ``count``; groups without members are left out. ``m_kj = w_j``,
    but 0 for j in group k with ``exclude_own``. Prototypes are constants unless ``prototype_gradient``. The rest as
    in :func:`topology_distance`. The matrix is [count, n].
    """
    _check(student, teacher, weights, groups)
    if count < 1:
        raise ValueError(f"count must be at least 1 group, got {count}")
    with torch.autocast(student.device.type, enabled=False):
        s, t = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (student, teacher))
        return Distance(*reference.prototype_distance(s, t, groups, count, weights, exclude_own, prototype_gradient))


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), eps=reference.EPSILON)


def _gram(s: Tensor, t: Tensor, weights: Tensor | None) -> Distance:
    if weights is None:
        pairs = s.new_tensor(float(len(s)) ** 2)
    else:
        pairs = weights.to(s.dtype).sum().square()
        root = weights.to(s.dtype).clamp(min=0).sqrt().unsqueeze(1)
        s, t = s * root, t * root

    def power(a: Tensor, b: Tensor) -> Tensor:
        return (a.T @ b).double().square().sum()

    # The smaller of the two Gram matrices of the teacher has the same norm.
    own = power(t, t) if t.shape[1] <= len(t) else power(t.T, t.T)
    total = own + power(s, s) - 2.0 * power(t, s)
    # The value alone: near a perfect student the sum ends below 0 by rounding, its gradient does not.
    return Distance((total + (total.clamp(min=0.0) - total).detach()).to(s.dtype), pairs)


def _by_group(s: Tensor, t: Tensor, w: Tensor, groups: Tensor, positive_only: bool) -> Distance:
    """Sum over the groups, each on its own rows."""
    order = groups.sort(stable=True).indices
    sizes = torch.unique(groups, return_counts=True)[1].tolist()
    parts = zip(*(torch.split(x.index_select(0, order), sizes) for x in (s, t, w)), strict=True)
    found = []
    for a, b, v in parts:
        narrow = not positive_only and len(a) > t.shape[1] + s.shape[1]
        found.append(_gram(a, b, v) if narrow else _tiles(a, b, v, None, positive_only))
    if not found:
        return Distance(s.sum() * 0.0, w.sum() * 0.0)
    return Distance(torch.stack([d.loss for d in found]).sum(), torch.stack([d.pairs for d in found]).sum())


def _tiles(s: Tensor, t: Tensor, w: Tensor, groups: Tensor | None, positive_only: bool) -> Distance:
    loss, pairs, _ = _Tiles.apply(s, t, w, groups, positive_only)  # type: ignore[no-untyped-call]
    return Distance(loss, pairs)


class _Tiles(torch.autograd.Function):
    """Cosines of some rows at a time; the forward pass makes the gradient ``4 sum_j m_ij (cos s - cos t)_ij s_j``."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, w: Tensor, groups: Tensor | None, positive_only: bool) -> Any:
        gradient = torch.empty_like(s) if ctx.needs_input_grad[0] else None
        ours = s.device.type == "cpu" and groups is None and not torch.compiler.is_compiling()
        made = _on_the_host if ours else _anywhere
        loss, pairs = made(s.detach(), t, w, groups, positive_only, gradient)
        end = handle(s)
        if gradient is not None:
            ctx.save_for_backward(gradient, end)
            gradient.mul_(4.0)
        pairs = pairs.to(s.dtype)
        ctx.mark_non_differentiable(pairs)
        return loss.to(s.dtype), pairs, end

    @staticmethod
    @once
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return ctx.saved_tensors[0] * upstream[0], None, None, None, None


Sums = tuple[Tensor, Tensor]


def _anywhere(
    s: Tensor, t: Tensor, w: Tensor, groups: Tensor | None, positive_only: bool, gradient: Tensor | None
) -> Sums:
    """Return the two sums, Float64[]; write a quarter of the gradient."""
    loss, pairs = s.new_zeros((), dtype=torch.float64), s.new_zeros((), dtype=torch.float64)
    for start in range(0, len(s), _ROWS):
        rows = slice(start, start + _ROWS)
        wanted = t[rows] @ t.T
        mask = w[rows, None] * w[None, :]
        if groups is not None:
            mask = mask * (groups[rows, None] == groups[None, :])
        if positive_only:
            mask = mask * (wanted > 0)
        gap = s[rows] @ s.T - wanted
        weighted = gap * mask
        loss += (weighted * gap).sum(dtype=torch.float64)
        pairs += mask.sum(dtype=torch.float64)
        if gradient is not None:
            torch.mm(weighted, s, out=gradient[rows])
    return loss, pairs


def _on_the_host(
    s: Tensor, t: Tensor, w: Tensor, _: Tensor | None, positive_only: bool, gradient: Tensor | None
) -> Sums:
    """Return the same on the CPU: half of the cosines, in one pass over them, large products by ours."""
    products, weigh_gaps = kernel("_matmul", "numba"), kernel("_gap_tiles", "numba").weigh_gaps
    s, t, w, loss, pairs = s.contiguous(), t.contiguous(), w.contiguous(), 0.0, 0.0
    if gradient is not None:
        gradient.zero_()
    for start in range(0, len(s), _BLOCK):
        rows, below = slice(start, start + _BLOCK), slice(start + _BLOCK, len(s))
        # Cosines are symmetric: what lies below the diagonal block stands for both sides.
        for columns, times in ((rows, 1.0), (below, 2.0)):
            if len(w[columns]) == 0:
                continue
            wanted, found = linear(t[rows], t[columns]), linear(s[rows], s[columns])
            one, two = weigh_gaps(found, wanted, w[rows], w[columns], positive_only)
            loss, pairs = loss + times * one, pairs + times * two
            if gradient is None:
                continue
            if found.numel() * s.shape[1] < _SMALL:
                gradient[rows].addmm_(found, s[columns])
            else:
                products.rows_by_columns(found, s[columns], gradient[rows], add=True)
            if columns is below:
                products.add_columns_by_columns(found, s[rows], gradient[below])
    return torch.tensor(loss, dtype=torch.float64), torch.tensor(pairs, dtype=torch.float64)


def _check(student: Tensor, teacher: Tensor, weights: Tensor | None, groups: Tensor | None) -> None:
    if student.ndim != 2 or teacher.ndim != 2 or len(student) != len(teacher):
        shapes = [list(student.shape), list(teacher.shape)]
        raise ValueError(f"expected student [n, S] and teacher [n, T], got {shapes}")
    for name, value in (("weights", weights), ("groups", groups)):
        if value is not None and value.shape != (len(student),):
            raise ValueError(f"{name} must be [{len(student)}] (rows), got {list(value.shape)}")
    if student.shape[1] == 0 or teacher.shape[1] == 0:
        raise ValueError(f"vectors need a width of at least 1, got {student.shape[1]} and {teacher.shape[1]}")
    seen = weights is not None and weights.device.type == "cpu" and not torch.compiler.is_compiling()
    if weights is not None and seen and len(weights) and float(weights.detach().min()) < 0:
        raise ValueError(f"weights must not be negative, got {float(weights.detach().min())}")
