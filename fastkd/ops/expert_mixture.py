"""Mixture of small two-layer experts as few large matrix products.

Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20), the distillation experts.
The work is matrix products: torch's, or ours for a soft mixture on the CPU, on some processors twice as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastkd.kernels.reference import expert_mixture as reference
from fastkd.ops._dispatch import choose
from fastkd.ops._mixture_tiles import MixtureTiles

_SMALLEST_GROUP = 16
_FEW = 0.6
"""Share of gates that count, below which the rest is left out."""


def expert_mixture(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, gates: Tensor, negligible: float = 0.0,
    backend: str = "auto",
) -> Tensor:  # fmt: skip
    """Return ``y = sum_e z_e * (relu(x W1_e^T + b1_e) W2_e + b2_e)``.

    ``x`` Float[n, S]; ``w1`` Float[E, H, S]; ``b1`` Float[E, H]; ``w2`` Float[E, H, T]; ``b2`` Float[E, T]; ``gates``
    z Float[n, E]. Returns Float[n, T]; differentiable in all. The gates scale the hidden units, so that the sum over
    experts is one product [n, E H] @ [E H, T] and no [n, T, E] is made. ``negligible``: gates up to it may count as 0
    and get no gradient; on the CPU, where they are counted, a mixture in which most are is made of the rest, grouped
    by expert, and any other of some rows at a time, with their hidden units made again in the backward pass.
    ``backend``: ``"auto"``, or ``"reference"`` for one expert after the other.

    Raises ``ValueError`` for shapes that do not fit or an unknown backend, ``BackendError`` for one that has no kernel.
    """
    _check(x, w1, b1, w2, b2)
    if gates.shape != (len(x), len(w1)):
        raise ValueError(f"gates must be [{len(x)}, {len(w1)}] (rows, experts), got {list(gates.shape)}")
    if backend != "auto" and choose("expert_mixture", backend, x.device.type) == "reference":
        return reference.expert_mixture(x, w1, b1, w2, b2, gates)
    # A trace would hold the gates' counts of its example.
    if negligible > 0 and x.device.type == "cpu" and len(w1) > 1 and not torch.compiler.is_compiling():
        kept = gates.detach() > negligible
        if int(kept.sum()) < _FEW * kept.numel():
            return _of_few(x, w1, b1, w2, b2, gates, kept)
        same = all(t.dtype == x.dtype for t in (w1, b1, w2, b2, gates))
        if same and not torch.is_autocast_enabled("cpu"):
            mixed: Tensor = MixtureTiles.apply(x, w1, b1, w2, b2, gates)  # type: ignore[no-untyped-call]
            return mixed
    hidden = torch.relu(functional.linear(x, w1.flatten(0, 1), b1.flatten()))
    weighted = hidden.view(len(x), *b1.shape) * gates.unsqueeze(2)
    return torch.addmm(gates @ b2, weighted.flatten(1), w2.flatten(0, 1))


def expert_choice(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, chosen: Tensor) -> Tensor:
    """Return :func:`expert_mixture` for one-hot gates: row i goes through expert ``chosen[i]`` alone.

    ``chosen`` Int64[n]; the rest as in :func:`expert_mixture`. Rows are grouped by expert. On the CPU each group
    has its own size: 1 / E of the mixture's work. Elsewhere groups are cut into blocks of one size, at most 2 E
    of them, so that every shape follows from n and E and no count is read back: at most 2 / E of the work. An
    expert that no row chose gets gradient 0.
    """
    _check(x, w1, b1, w2, b2)
    if chosen.shape != (len(x),):
        raise ValueError(f"chosen must be [{len(x)}] (rows), got {list(chosen.shape)}")
    order = chosen.sort(stable=True).indices
    if x.device.type == "cpu":
        output = _by_counts(
            x.index_select(0, order), torch.bincount(chosen, minlength=len(w1)).tolist(), w1, b1, w2, b2
        )
    else:
        output = _by_blocks(x.index_select(0, order), chosen[order], w1, b1, w2, b2)
    return torch.zeros_like(output).index_copy(0, order, output)


def _of_few(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, gates: Tensor, kept: Tensor) -> Tensor:
    """Return the mixture of the gates in ``kept`` Bool[n, E] alone: (row, expert) pairs, grouped by expert."""
    expert, row = kept.t().nonzero(as_tuple=True)
    gate = gates.flatten().gather(0, row * len(w1) + expert)
    order = row.argsort(stable=True)
    ends = functional.pad(kept.sum(1).cumsum(0), (1, 0))
    pairs: Tensor = _Spread.apply(x, row, order, ends)  # type: ignore[no-untyped-call]
    outputs = _by_counts(pairs, kept.sum(0).tolist(), w1, b1, w2, b2) * gate.unsqueeze(1).to(x.dtype)
    mixed: Tensor = _Collect.apply(outputs, row, order, ends)  # type: ignore[no-untyped-call]
    return mixed


def _sums(x: Tensor, order: Tensor, ends: Tensor) -> Tensor:
    """Return ``y_i = sum_{ends_i <= p < ends_{i + 1}} x[order_p]``, each by one thread in one order."""
    return functional.embedding_bag(order, x.contiguous(), ends, mode="sum", include_last_offset=True)


class _Spread(torch.autograd.Function):
    """``x[row]``; the gradient collects what was spread."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, row: Tensor, order: Tensor, ends: Tensor) -> Tensor:
        ctx.save_for_backward(row, order, ends)
        return x.index_select(0, row)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return _Collect.apply(upstream[0], *ctx.saved_tensors), None, None, None  # type: ignore[no-untyped-call]


class _Collect(torch.autograd.Function):
    """``y_i = sum of x_p over the pairs p of row i``; the gradient spreads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, row: Tensor, order: Tensor, ends: Tensor) -> Tensor:
        ctx.save_for_backward(row, order, ends)
        return _sums(x, order, ends)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        return _Spread.apply(upstream[0], *ctx.saved_tensors), None, None, None  # type: ignore[no-untyped-call]


def _by_counts(x: Tensor, counts: list[int], w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Return the output of rows sorted by expert, ``counts[e]`` of expert e: no padding, where counting is free."""
    parts = zip(torch.split(x, counts), w1.unbind(), b1.unbind(), w2.unbind(), b2.unbind(), strict=True)
    return torch.cat(
        [torch.addmm(offset, torch.relu(functional.linear(rows, a, shift)), b) for rows, a, shift, b, offset in parts]
    )


def _by_blocks(x: Tensor, chosen: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Return the output of rows sorted by expert, in blocks whose number and size follow from n and E."""
    rows, experts = len(x), len(w1)
    size = max(_SMALLEST_GROUP, -(-rows // experts))
    blocks = rows // size + experts
    slots, expert = _blocks_of(chosen, experts, size, blocks)
    grouped = x.new_zeros(blocks * size, x.shape[1]).index_copy(0, slots, x)
    # An embedding lookup, because its gradient sums in a fixed order on every device.
    first, shift, second, offset = (
        functional.embedding(expert, w.flatten(1)).view(-1, *w.shape[1:]) for w in (w1, b1, w2, b2)
    )
    hidden = torch.relu(torch.baddbmm(shift.unsqueeze(1), grouped.view(blocks, size, -1), first.transpose(1, 2)))
    return torch.baddbmm(offset.unsqueeze(1), hidden, second).flatten(0, 1).index_select(0, slots)


def _blocks_of(ordered: Tensor, experts: int, size: int, blocks: int) -> tuple[Tensor, Tensor]:
    """Return the slot in the block layout of each row [n], rows sorted by expert, and the expert of each block."""
    counts = torch.zeros(experts, dtype=torch.int64, device=ordered.device)
    counts = counts.scatter_add(0, ordered, torch.ones_like(ordered))
    needed = (counts + size - 1) // size
    ends = needed.cumsum(0)
    within = torch.arange(len(ordered), device=ordered.device) - (counts.cumsum(0) - counts)[ordered]
    slots = (ends - needed)[ordered] * size + within
    expert = torch.searchsorted(ends, torch.arange(blocks, device=ordered.device), right=True)
    return slots, expert.clamp(max=experts - 1)


def _check(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> None:
    shapes = [list(t.shape) for t in (x, w1, b1, w2, b2)]
    if x.ndim == 2 and w1.ndim == 3 and w2.ndim == 3:
        experts, hidden, narrow = w1.shape
        wanted = [[len(x), narrow], [experts, hidden, narrow], [experts, hidden]]
        wanted += [[experts, hidden, w2.shape[2]], [experts, w2.shape[2]]]
        if shapes == wanted and experts > 0:
            return
    raise ValueError(f"expected x [n, S], w1 [E, H, S], b1 [E, H], w2 [E, H, T], b2 [E, T]; got {shapes}")
