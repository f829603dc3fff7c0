"""The gradient of an item table on the CPU, summed from coefficients in the order of the entries, without atomics.

    out[i] = sum_{(b, c): ids[b, c] = i} upstream[b] coefficients[b, c] users[b]

Shapes: B users, N items, D dimensions, W ids of a user. Threads share the items, not the users: each reads all ids and
adds what is its own, so a row has one owner and its sum one order. Reading an id costs a tenth of adding a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastkd.kernels.numba._arrays import NUMPY, new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._prefetch import AHEAD, prefetch_row
from fastkd.kernels.numba._threads import num_parts, run_parts, run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

_FRESH = 10_000_000
"""Numbers from which memory is a fresh map of the system's: the allocator keeps at most 32 MB for the next call."""

_SHARES = 64
"""Item i belongs to share ``(i // 8) % 64``, a thread owns some: neighbours in one cache line have one owner, and items
sorted by popularity are dealt out evenly."""


def table_gradient(
    upstream: Floats, scaled: bool, coefficients: Floats, ids: Ints, users: Floats, rows: int, dtype: torch.dtype
) -> Floats:
    """Return Float[N, D], N = ``rows``. Ids outside [0, N) are nobody's; ``upstream`` Float[B] counts if ``scaled``."""
    out = _zeros((rows, users.shape[1]), dtype)
    parts = min(num_parts(max(len(ids), 1), ids.shape[1] * (1.0 + 0.25 * users.shape[1])), _SHARES)
    edges = [_SHARES * part // parts for part in range(parts + 1)]
    run_parts(lambda part: _add(upstream, scaled, coefficients, ids, users, out, edges[part], edges[part + 1]), parts)
    return out


def _zeros(shape: tuple[int, int], dtype: torch.dtype) -> Floats:
    """Return zeros; what is large comes so from the system, and clearing it again would take as long."""
    if shape[0] * shape[1] > _FRESH:
        return np.zeros(shape, NUMPY[dtype])
    out = new(shape, dtype)
    run_rows(_clear, len(out), 0.1 * out.shape[1], out)
    return out


@jit()
def _clear(out: Floats, start: int, stop: int) -> None:
    out[start:stop] = 0


@jit(fastmath={"contract"})
def _add(
    upstream: Floats, scaled: bool, coefficients: Floats, ids: Ints, users: Floats, out: Floats, first: int, last: int
) -> None:
    width, begin, shares = ids.shape[1], np.uint32(first), np.uint32(last - first)
    rows = np.uint64(len(out))
    listed = np.empty(width, dtype=np.int64)
    for b in range(ids.shape[0]):
        row, vector = ids[b], users[b]
        above = upstream[b] if scaled else upstream.dtype.type(1)
        count: Any = 0
        # Without a branch: which ids are one's own cannot be foretold.
        for c in range(width):
            listed[count] = c
            share = np.uint32((row[c] >> 3) & (_SHARES - 1)) - begin
            count += (np.uint64(row[c]) < rows) & (np.uint32(share) < shares)
        for j in range(count):
            if j + AHEAD < count:
                prefetch_row(out, row[listed[j + AHEAD]])
            c = listed[j]
            value, target = above * coefficients[b, c], out[row[c]]
            for d in range(len(vector)):
                target[d] += value * vector[d]
