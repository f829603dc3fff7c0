"""Products of float32 matrices on all threads, in 512-bit registers where the processor has them, else by torch.

Shapes: M x K, K x N and so on, all contiguous. An element is one chain of fused additions, in stretches of 512 terms
where it sums over rows: its bits do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._combine import readable, weigh_rows
from fastkd.kernels.numba._product import PANEL, multiplies, pack_users, write_products

_ROWS = 24
"""Rows of a share are a multiple of this: 6, 8 or 12 are made at a time."""


def makes(*tables: Tensor) -> bool:
    """Return whether products of these are made here and not by torch."""
    return all(multiplies(table.dtype) for table in tables)


def rows_by_rows(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left @ right.T``, [M, N] of [M, K] and [N, K]."""
    if not makes(left, right):
        return torch.mm(left, right.T)
    out, packed = left.new_empty(len(left), len(right)), pack_users(left.detach())
    numbers, target = right.detach().numpy(), out.numpy()
    _shared(len(right), PANEL, lambda a, b: write_products(packed, numbers[a:b], target[:, a:b]))
    return out


def rows_by_columns(left: Tensor, right: Tensor, out: Tensor, *, add: bool) -> None:
    """Write ``left @ right`` to ``out`` or add it, [M, N] of [M, K] and [K, N]."""
    if not makes(left, right, out):
        torch.addmm(out, left, right, beta=int(add), out=out)
        return
    (count, terms), (table, first) = left.shape, readable(right.detach(), 0, len(right))
    numbers, rows, target = left.detach().numpy(), table.numpy(), out.detach().numpy()
    _shared(
        count, _ROWS, lambda a, b: weigh_rows(numbers, a * terms, terms, 1, b - a, terms, rows, first, target[a:b], add)
    )


def add_columns_by_columns(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Add ``left.T @ right`` to ``out``, [M, N] of [K, M] and [K, N]."""
    if not makes(left, right, out):
        out.addmm_(left.T, right)
        return
    (terms, count), (table, first) = left.shape, readable(right.detach(), 0, len(right))
    numbers, rows, target = left.detach().numpy(), table.numpy(), out.detach().numpy()
    _shared(count, _ROWS, lambda a, b: weigh_rows(numbers, a, 1, count, b - a, terms, rows, first, target[a:b], True))


def _shared(count: int, unit: int, work: Callable[[int, int], None]) -> None:
    """Call ``work(start, stop)`` for ranges of ``count`` rows that threads share evenly."""
    threads = torch.get_num_threads()
    size = max(1, -(-count // (threads * unit))) * unit
    starts = range(0, count, size)
    run_blocks(lambda start: work(start, min(start + size, count)), starts)
