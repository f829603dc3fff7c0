"""Scores of a few users: one pass over the items yields products and the largest norm.

A matrix product for few users waits for memory. So the table is read once, for both, and nothing else is.

Shapes: B users, W items in a tile, D dimensions, P: D rounded up to a multiple of 8.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._simd import ROWS, eight_products, eight_squares
from fastkd.kernels.numba._topk_margin import largest_norm, norm_bound

Floats = NDArray[Any]


def score_few(users: Floats, items: Floats, out: Floats) -> float:
    """Write ``out[b, i] = <users[b], items[i]>`` for i < W, summed in any order; return a bound on the norms."""
    square = score_one(users[0], items, out[0]) if len(users) == 1 else score_users(_padded(users), items, out)
    bound: float = norm_bound(square, items.shape[1], items.itemsize == 8)
    return largest_norm(items) if math.isnan(bound) else bound


def _padded(users: Floats) -> Floats:
    """Return the users with zeros up to P dimensions."""
    rest = -users.shape[1] % ROWS
    return np.pad(users, ((0, 0), (0, rest))) if rest else users


@jit(fastmath={"reassoc", "contract"})
def score_one(user: Floats, items: Floats, out: Floats) -> float:
    """Score one user: row after row, as memory delivers them."""
    zero = items.dtype.type(0)
    largest, wrong = zero, False
    for i in range(len(items)):
        row, square, total = items[i], zero, zero
        for d in range(len(row)):
            square += row[d] * row[d]
            total += user[d] * row[d]
        out[i] = total
        wrong |= square != square
        largest = max(largest, square)
    return np.inf if wrong else np.float64(largest)


@jit()
def score_users(users: Floats, items: Floats, out: Floats) -> float:
    """Score items eight at a time; those that do not fill eight rows of P values are copied where they do."""
    dim, padded = items.shape[1], users.shape[1]
    copy = np.zeros((ROWS, padded), dtype=items.dtype)
    sums = np.empty(ROWS, dtype=items.dtype)
    squares = np.zeros(ROWS, dtype=items.dtype)
    largest, wrong = items.dtype.type(0), False
    for first in range(0, len(items), ROWS):
        size = min(ROWS, len(items) - first)
        rows, start = items, first
        if size < ROWS or dim < padded:
            for j in range(size):
                for d in range(dim):
                    copy[j, d] = items[first + j, d]
            rows, start = copy, 0
        eight_squares(rows, start, squares, 0)
        for j in range(size):
            wrong |= squares[j] != squares[j]
            largest = max(largest, squares[j])
        for b in range(len(users)):
            if size == ROWS:
                eight_products(rows, start, users[b], out[b], first)
                continue
            eight_products(rows, start, users[b], sums, 0)
            for j in range(size):
                out[b, first + j] = sums[j]
    return np.inf if wrong else np.float64(largest)
