"""Where the items of one list stand in another, on the CPU: a small hash table for each row.

Shapes: B rows, M and L entries of the two lists, H = a power of two, at least 2 L.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._threads import run_rows

Ints = NDArray[Any]

_MIX = np.uint64(0x9E3779B97F4A7C15)


def ranks_within(lists_a: Tensor, lists_b: Tensor) -> Tensor:
    """Return Int64[B, M]; see :func:`fastkd.ops.ranks_within`. Memory beyond the arguments: O(L) per thread."""
    a, b = array(lists_a, torch.int64), array(lists_b, torch.int64)
    ranks = np.empty(a.shape, dtype=np.int64)
    run_rows(_look_up, len(a), 20.0 + 4.0 * a.shape[1] + 6.0 * b.shape[1], a, b, ranks)
    return torch.from_numpy(ranks)


@jit()
def _look_up(a: Ints, b: Ints, ranks: Ints, start: int, stop: int) -> None:
    """Fill a table with the places of ``b``'s items, the first of equal ones, and ask it for ``a``'s."""
    length, bits = b.shape[1], 1
    while (1 << bits) < 2 * length:
        bits += 1
    shift, mask = np.uint64(64 - bits), (1 << bits) - 1
    table = np.zeros(1 << bits, dtype=np.int64)
    for row in range(start, stop):
        table[:] = 0
        for j in range(length):
            item = b[row, j]
            if item < 0:
                continue
            slot = np.int64((np.uint64(item) * _MIX) >> shift)
            while table[slot] > 0 and b[row, table[slot] - 1] != item:
                slot = (slot + 1) & mask
            if table[slot] == 0:
                table[slot] = j + 1
        for j in range(a.shape[1]):
            item, rank = a[row, j], np.int64(0)
            if item >= 0:
                slot = np.int64((np.uint64(item) * _MIX) >> shift)
                while table[slot] > 0 and b[row, table[slot] - 1] != item:
                    slot = (slot + 1) & mask
                rank = table[slot] if table[slot] > 0 else length + 1
            ranks[row, j] = rank
