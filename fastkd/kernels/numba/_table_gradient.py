"""The gradient of an item table on the CPU, summed from coefficients: each row written once, without atomics.

    out[i] = sum_{(b, c): ids[b, c] = i} upstream[b] coefficients[b, c] users[b]

Shapes: B users, N items, D dimensions, W ids of a user. Entries are sorted by item (counting sort, so in the order of
(b, c) within an item); then threads share the items, evenly by entries, and sum each row in registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._threads import num_parts, run_parts

Floats = NDArray[Any]
Ints = NDArray[Any]


def table_gradient(upstream: Floats, scaled: bool, coefficients: Floats, ids: Ints, users: Floats, out: Floats) -> None:
    """Fill ``out`` Float[N, D]. Ids outside [0, N) are nobody's; ``upstream`` Float[B] counts if ``scaled``."""
    count, entries = len(out), ids.size
    position = np.int32 if entries < 2**31 else np.int64
    starts = np.zeros(count + 2, dtype=position)
    rows, values = np.empty(entries, dtype=np.int32), np.empty(entries, dtype=out.dtype)
    _sort(upstream, scaled, coefficients, ids, starts, rows, values)
    work = 1.0 + 0.25 * users.shape[1]
    parts = num_parts(max(count, 1), work * (entries + count) / max(count, 1))
    edges = [_edge(starts, count, part, parts) for part in range(parts + 1)]
    run_parts(lambda part: _sum(users, starts, rows, values, out, edges[part], edges[part + 1]), parts)


def _edge(starts: Ints, count: int, part: int, parts: int) -> int:
    """Return the first item of ``part``, by bisection: parts have as many entries plus items."""
    wanted = (int(starts[count]) + count) * part / parts
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if int(starts[middle]) + middle < wanted:
            low = middle + 1
        else:
            high = middle
    return low if part < parts else count


@jit()
def _sort(
    upstream: Floats, scaled: bool, coefficients: Floats, ids: Ints, starts: Ints, rows: Ints, values: Floats
) -> None:  # fmt: skip
    """Sort entries by item: those of item i end up in [starts[i], starts[i + 1]) of rows and values."""
    count = len(starts) - 2
    for b in range(ids.shape[0]):
        for c in range(ids.shape[1]):
            i = ids[b, c]
            if 0 <= i < count:
                starts[i + 2] += 1
    for i in range(2, count + 2):
        starts[i] += starts[i - 1]
    # starts[i + 1] is now where item i begins, and moves to where it ends
    for b in range(ids.shape[0]):
        above = upstream[b] if scaled else upstream.dtype.type(1)
        for c in range(ids.shape[1]):
            i = ids[b, c]
            if 0 <= i < count:
                at = starts[i + 1]
                starts[i + 1] = at + 1
                rows[at] = b
                values[at] = above * coefficients[b, c]


@jit()
def _sum(users: Floats, starts: Ints, rows: Ints, values: Floats, out: Floats, first: int, last: int) -> None:
    for i in range(first, last):
        if starts[i] == starts[i + 1]:
            out[i] = 0
        else:
            sum_rows(users, rows, values, starts[i], starts[i + 1], out[i])


@jit(fastmath={"contract"})
def sum_rows(table: Floats, rows: Ints, values: Floats, begin: int, end: int, out: Floats) -> None:
    """Write ``sum_e values[e] table[rows[e]]`` over e in [begin, end), in that order.

    Sixteen sums, then four, then one at a time stay in registers: LLVM makes vectors of them at any width D.
    """
    zero, dim, d = out.dtype.type(0), len(out), 0
    while d + 16 <= dim:
        a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = zero
        b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = zero
        for e in range(begin, end):
            g, p = values[e], table[rows[e], d : d + 16]
            a0, a1, a2, a3 = a0 + g * p[0], a1 + g * p[1], a2 + g * p[2], a3 + g * p[3]
            a4, a5, a6, a7 = a4 + g * p[4], a5 + g * p[5], a6 + g * p[6], a7 + g * p[7]
            b0, b1, b2, b3 = b0 + g * p[8], b1 + g * p[9], b2 + g * p[10], b3 + g * p[11]
            b4, b5, b6, b7 = b4 + g * p[12], b5 + g * p[13], b6 + g * p[14], b7 + g * p[15]
        q = out[d : d + 16]
        q[0], q[1], q[2], q[3], q[4], q[5], q[6], q[7] = a0, a1, a2, a3, a4, a5, a6, a7
        q[8], q[9], q[10], q[11], q[12], q[13], q[14], q[15] = b0, b1, b2, b3, b4, b5, b6, b7
        d += 16
    while d + 4 <= dim:
        a0 = a1 = a2 = a3 = zero
        for e in range(begin, end):
            g, p = values[e], table[rows[e], d : d + 4]
            a0, a1, a2, a3 = a0 + g * p[0], a1 + g * p[1], a2 + g * p[2], a3 + g * p[3]
        q = out[d : d + 4]
        q[0], q[1], q[2], q[3] = a0, a1, a2, a3
        d += 4
    while d < dim:
        a0 = zero
        for e in range(begin, end):
            a0 += values[e] * table[rows[e], d]
        out[d] = a0
        d += 1
