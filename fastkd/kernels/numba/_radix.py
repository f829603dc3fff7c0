"""A stable sort of (id, entry) pairs by id: digits of 12 bits, least significant first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit

Pairs = NDArray[np.uint64]

MAX_ENTRIES = 2**32 - 1
"""Most entries, and largest id, that fit one pair ``id << 32 | entry``."""

_DIGIT = 12


def sorted_pairs(ids: NDArray[Any], limit: int) -> Pairs:
    """Return ``id << 32 | entry`` of every id in [0, ``limit``), by id, entries of one id in their order.

    ``ids``: Int32 or Int64, any shape, C order; entry e is the e-th in it. Other ids (padding) are left out.
    """
    pairs = np.empty(ids.size, dtype=np.uint64)
    count = _pack(ids.reshape(-1), limit, pairs)
    pairs, spare = pairs[:count], np.empty(count, dtype=np.uint64)
    for shift in range(0, max(limit - 1, 1).bit_length(), _DIGIT):
        _by_digit(pairs, spare, np.uint64(32 + shift))
        pairs, spare = spare, pairs
    return pairs


@jit()
def _pack(ids: NDArray[Any], limit: int, out: Pairs) -> int:
    count = 0
    for entry in range(len(ids)):
        i = ids[entry]
        if 0 <= i < limit:
            out[count] = (np.uint64(i) << np.uint64(32)) | np.uint64(entry)
            count += 1
    return count


@jit()
def _by_digit(pairs: Pairs, out: Pairs, shift: np.uint64) -> None:
    mask = np.uint64((1 << _DIGIT) - 1)
    places = np.zeros((1 << _DIGIT) + 1, dtype=np.int64)
    for pair in pairs:
        places[np.int64((pair >> shift) & mask) + 1] += 1
    for digit in range(1 << _DIGIT):
        places[digit + 1] += places[digit]
    for pair in pairs:
        place = np.int64((pair >> shift) & mask)
        out[places[place]] = pair
        places[place] += 1


@jit()
def segments(pairs: Pairs, starts: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    """Write where each distinct id's run starts and the id; return their number R (``starts[R]`` is the end)."""
    count, last = 0, np.uint64(0)
    for j in range(len(pairs)):
        row = pairs[j] >> np.uint64(32)
        if j == 0 or row != last:
            starts[count], rows[count], last = j, row, row
            count += 1
    starts[count] = len(pairs)
    return count
