"""Scores of a few users: one pass over the items yields products and the largest norm.

A matrix product for one user waits for memory. So the table is read once, for both, and nothing else is.

Shapes: B users, W items in a tile, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._topk_margin import largest_norm, norm_of_square

Floats = NDArray[Any]


def score_few(users: Floats, items: Floats, out: Floats) -> float:
    """Write ``out[b, i] = <users[b], items[i]>`` for i < W, summed in any order; return a bound on the norms."""
    bound = norm_of_square(_score(users, items, out), items.dtype, items.shape[1])
    return largest_norm(items) if bound is None else bound


@jit(fastmath={"reassoc", "contract"})
def _score(users: Floats, items: Floats, out: Floats) -> float:
    zero = items.dtype.type(0)
    largest, wrong = zero, False
    for i in range(len(items)):
        row, square = items[i], zero
        for d in range(len(row)):
            square += row[d] * row[d]
        for b in range(len(users)):
            user, total = users[b], zero
            for d in range(len(row)):
                total += user[d] * row[d]
            out[b, i] = total
        wrong |= square != square
        largest = max(largest, square)
    return np.inf if wrong else np.float64(largest)
