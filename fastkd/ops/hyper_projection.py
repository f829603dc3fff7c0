"""Rows through maps that a hyper-network makes for each of them, without holding the maps.

Kang et al., personalised hint regression (PHR), 2022. Matrix products: torch's, on the CPU ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastkd.kernels.reference import hyper_projection as reference
from fastkd.ops._dispatch import choose, kernel
from fastkd.ops._library import once

_KEPT = 1 << 26
"""Entries of maps up to which all are held for the backward pass, which else makes them again."""
_CELLS = 1 << 23
"""Entries of maps held at a time, where there are more."""


def hyper_projection(
    x: Tensor, context: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, backend: str = "auto"
) -> Tensor:
    """Return ``y_n = W_n x_n`` with ``W_n = reshape(W2 relu(W1 v_n + b1) + b2, T, S)``.

    ``x`` Float[n, S]; ``context`` v Float[n, C]; ``w1`` Float[H, C]; ``b1`` Float[H]; ``w2`` Float[T S, H]; ``b2``
    Float[T S]. Returns Float[n, T]; differentiable in all. Where the maps are more than 2^26 numbers, they are made
    for some rows at a time, and again in the backward pass: a third more work. So they always are in float32 on a CPU
    with 512-bit registers, on which a product takes half of torch's time; second derivatives are refused then.
    ``backend``: ``"auto"``, or ``"reference"`` to hold them all.

    Raises ``ValueError`` for shapes that do not fit or an unknown backend.
    """
    _check(x, context, w1, b1, w2, b2)
    if backend != "auto" and choose("hyper_projection", backend, x.device.type) == "reference":
        return reference.hyper_projection(x, context, w1, b1, w2, b2)
    own = _is_ours(x, w1, b1, w2, b2)
    if len(x) * len(w2) <= _KEPT and not own:
        return reference.hyper_projection(x, context, w1, b1, w2, b2)
    hidden = torch.relu(functional.linear(context, w1, b1))
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, w2, b2 = x.to(dtype), w2.to(dtype), b2.to(dtype)
    mapped: Tensor = _Mapped.apply(x.contiguous(), hidden.to(x.dtype), w2.contiguous(), b2)  # type: ignore[no-untyped-call]
    return mapped


def _is_ours(x: Tensor, *others: Tensor) -> bool:
    if torch.compiler.is_compiling() or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    return bool(kernel("_matmul", "numba").makes(x, *others))


class _Mapped(torch.autograd.Function):
    """``y_n = reshape(W2 h_n + b2, T, S) x_n``, the maps of a stretch of rows at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, hidden: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
        ctx.save_for_backward(x, hidden, w2, b2)
        y = x.new_empty(len(x), len(w2) // x.shape[1])
        for rows in _stretches(len(x), len(w2)):
            maps = _maps(hidden[rows], w2, b2).view(len(hidden[rows]), y.shape[1], x.shape[1])
            y[rows] = torch.bmm(maps, x[rows].unsqueeze(2)).squeeze(2)
        return y

    @staticmethod
    @once
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        x, hidden, w2, b2 = ctx.saved_tensors
        (gradient,) = upstream
        d_x, d_hidden = torch.empty_like(x), torch.empty_like(hidden)
        d_w2, d_b2 = torch.zeros_like(w2), torch.zeros_like(b2)
        for rows in _stretches(len(x), len(w2)):
            g, h = gradient[rows], hidden[rows]
            maps = _maps(h, w2, b2).view(len(g), g.shape[1], x.shape[1])
            d_x[rows] = torch.bmm(maps.transpose(1, 2), g.unsqueeze(2)).squeeze(2)
            d_maps = torch.bmm(g.unsqueeze(2), x[rows].unsqueeze(1), out=maps).view(len(g), len(w2))
            if x.device.type == "cpu":
                products = kernel("_matmul", "numba")
                products.rows_by_columns(d_maps, w2, d_hidden[rows], add=False)
                products.add_columns_by_columns(d_maps, h, d_w2)
            else:
                d_hidden[rows] = d_maps @ w2
                d_w2.addmm_(d_maps.T, h)
            d_b2 += d_maps.sum(0)
        return d_x, d_hidden, d_w2, d_b2


def _maps(hidden: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    if hidden.device.type == "cpu":
        maps: Tensor = kernel("_matmul", "numba").rows_by_rows(hidden, w2)
        return maps.add_(b2)
    return torch.addmm(b2, hidden, w2.T)


def _stretches(rows: int, width: int) -> list[slice]:
    size = max(1, _CELLS // max(width, 1))
    return [slice(start, start + size) for start in range(0, rows, size)]


def _check(x: Tensor, context: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> None:
    shapes = [list(t.shape) for t in (x, context, w1, b1, w2, b2)]
    if x.ndim == 2 and context.ndim == 2 and w1.ndim == 2 and w2.ndim == 2 and x.shape[1] > 0:
        hidden, cells = len(w1), len(w2)
        wanted = [[len(x), x.shape[1]], [len(x), context.shape[1]], [hidden, context.shape[1]], [hidden]]
        wanted += [[cells, hidden], [cells]]
        if shapes == wanted and cells % x.shape[1] == 0:
            return
    raise ValueError(f"expected x [n, S], context [n, C], w1 [H, C], b1 [H], w2 [T S, H], b2 [T S]; got {shapes}")
