"""The listed items of a catalogue softmax: their part of the loss, of the user gradient and of the item gradient.

Shapes: B users, K listed items of a user, N items, D dimensions; ``users`` come scaled. An id of -1 is padding; any
other outside [0, N) makes the loss of its row NaN and is never used as an address.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._threads import num_parts, run_parts, run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

_SUM = frozenset({"reassoc", "contract"})
_BLOCK_BITS = 6


def add_targets(
    users: Floats, items: Floats, bias: Floats, ids: Ints, coefficients: Floats, top: Floats, out: tuple[Floats, ...]
) -> None:
    """Add ``c_j (top - s_j)`` to ``out[0]`` Float64[B], ``c_j`` to ``out[1]``, ``-c_j v_j`` to ``out[2]`` [B, D]."""
    work = 1 + ids.shape[1] * (6 + 0.3 * users.shape[1])
    run_rows(_targets, len(ids), work, users, items, bias, ids, coefficients, top, *out)


def add_target_gradient(users: Floats, ids: Ints, coefficients: Floats, upstream: Floats, out: Floats) -> None:
    """Add ``-g_b c_bj users_b`` to row ``ids[b, j]`` of ``out`` Float[N, D], in the order of (b, j)."""
    blocks = 1 + (len(out) >> _BLOCK_BITS)
    work = len(ids) * (1 + ids.shape[1] * (4 + 0.15 * users.shape[1]))
    parts = num_parts(blocks, work / blocks)
    run_parts(lambda part: _item_gradient(users, ids, coefficients, upstream, out, part, parts), parts)


@jit(fastmath=set(_SUM))
def _score(p: Floats, q: Floats) -> Any:
    total = p.dtype.type(0)
    for d in range(len(p)):
        total += p[d] * q[d]
    return total


@jit(fastmath={"contract"})
def _targets(
    users: Floats, items: Floats, bias: Floats, ids: Ints, coefficients: Floats, tops: Floats,
    losses: Floats, totals: Floats, gradients: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    for b in range(start, stop):
        p, loss, total = users[b], losses[b], totals[b]
        for j in range(ids.shape[1]):
            i, c = ids[b, j], np.float64(coefficients[b, j])
            if i == -1 or (c == 0 and 0 <= i < len(items)):
                continue
            if not 0 <= i < len(items):
                loss = np.nan
                continue
            q = items[i]
            score = _score(p, q)
            if len(bias):
                score += bias[i]
            total += c
            if tops[b] != -np.inf:
                loss += c * np.float64(tops[b] - score)
            else:
                loss = -np.inf
            if len(gradients):
                row = gradients[b]
                for d in range(len(row)):
                    row[d] -= c * np.float64(q[d])
        losses[b], totals[b] = loss, total


@jit(fastmath={"contract"})
def _item_gradient(
    users: Floats, ids: Ints, coefficients: Floats, upstream: Floats, out: Floats, part: int, parts: int
) -> None:
    """As in gather_dot: a part owns every ``parts``-th block of 64 items and takes what is its own."""
    owners, mine = np.uint32(parts), np.uint32(part)
    for b in range(ids.shape[0]):
        p = users[b]
        for j in range(ids.shape[1]):
            i = ids[b, j]
            if 0 <= i < len(out) and np.uint32(i >> _BLOCK_BITS) % owners == mine:
                g = upstream[b] * coefficients[b, j]
                row = out[i]
                for d in range(len(p)):
                    row[d] -= g * p[d]
