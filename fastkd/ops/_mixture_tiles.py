"""A soft mixture of experts, some rows at a time: what lies between the two products stays in the cache.

Held for the backward pass: inputs alone. Hidden units are made again there, which costs the narrow product once more.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.ops._dispatch import kernel
from fastkd.ops._library import once

_CELLS = 1 << 21
"""Hidden units held at a time."""


class MixtureTiles(torch.autograd.Function):
    """``y = sum_e z_e (relu(x W1_e^T + b1_e) W2_e + b2_e)``; shapes as in :func:`fastkd.ops.expert_mixture`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, gates: Tensor) -> Tensor:
        ctx.save_for_backward(x, w1, b1, w2, b2, gates)
        products, y = kernel("_matmul", "numba"), gates @ b2
        x, first, second = _flat(x, w1, w2)
        for rows in stretches(len(x), b1.numel()):
            hidden = products.rows_by_rows(x[rows], first).add_(b1.flatten()).relu_()
            hidden.view(len(hidden), *b1.shape).mul_(gates[rows].unsqueeze(2))
            products.rows_by_columns(hidden, second, y[rows], add=True)
        return y

    @staticmethod
    @once
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        x, w1, b1, w2, b2, gates = ctx.saved_tensors
        products, gradient = kernel("_matmul", "numba"), upstream[0].contiguous()
        x, first, second = _flat(x, w1, w2)
        d_x, d_gates = torch.empty_like(x), gradient @ b2.T
        d_first, d_shift, d_second = torch.zeros_like(first), torch.zeros_like(b1).flatten(), torch.zeros_like(second)
        for rows in stretches(len(x), b1.numel()):
            g, z = gradient[rows], gates[rows].unsqueeze(2)
            hidden = products.rows_by_rows(x[rows], first).add_(b1.flatten()).relu_()
            d_hidden = products.rows_by_rows(g, second)
            by_expert, d_by_expert = (t.view(len(t), *b1.shape) for t in (hidden, d_hidden))
            d_gates[rows] += torch.linalg.vecdot(d_by_expert, by_expert)
            d_by_expert.mul_(z)
            d_hidden.mul_(hidden > 0)
            by_expert.mul_(z)
            products.add_columns_by_columns(hidden, g, d_second)
            products.add_columns_by_columns(d_hidden, x[rows], d_first)
            d_shift += d_hidden.sum(0)
            products.rows_by_columns(d_hidden, first, d_x[rows], add=False)
        return d_x, d_first.view_as(w1), d_shift.view_as(b1), d_second.view_as(w2), gates.T @ gradient, d_gates


def _flat(x: Tensor, w1: Tensor, w2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows and the layers of all experts as contiguous matrices [n, S], [E H, S], [E H, T]."""
    return x.contiguous(), w1.flatten(0, 1).contiguous(), w2.flatten(0, 1).contiguous()


def stretches(rows: int, width: int) -> list[slice]:
    """Cut ``rows`` of ``width`` hidden units into stretches that are held at a time."""
    size = max(1, _CELLS // max(width, 1))
    return [slice(start, start + size) for start in range(0, rows, size)]
