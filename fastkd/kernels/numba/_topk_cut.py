"""Cutting a buffer of candidates back to its best, and sorting them, by counting: loops without branches to guess.

A quickselect of a few hundred keys spends its time on branches guessed wrong. To halve an interval of keys and count
those below its middle is a dozen passes of vector compares instead, and a fifth of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import Keys, key_item, key_score, select_smallest

MOST_COUNTED = 2048
"""Keys beyond which a quickselect is as fast."""
_MOST_RANKED = 320
_ROUNDS = 12
_ONE = np.uint64(1)


@jit()
def count_within(keys: Keys, count: int, bound: Any) -> int:
    """Return how many of ``keys[:count]`` are at most ``bound``."""
    found = 0
    for j in range(count):
        found += keys[j] <= bound
    return found


@jit()
def bound_of(keys: Keys, count: int, k: int, slack: int) -> Any:
    """Return a bound that at least ``k`` and at most ``k + slack`` of ``keys[:count]`` do not exceed.

    Keys are unlike each other, and 1 <= k <= count.
    """
    low, high = keys[0], keys[0]
    for j in range(1, count):
        low, high = min(low, keys[j]), max(high, keys[j])
    if k + slack >= count:
        return high
    while low < high:
        middle = low + ((high - low) >> _ONE)
        found = count_within(keys, count, middle)
        if found < k:
            low = middle + _ONE
        else:
            high = middle
            if found <= k + slack:
                break
    return high


@jit()
def keep_within(keys: Keys, count: int, bound: Any) -> int:
    """Move those of ``keys[:count]`` that are at most ``bound`` to the front, in order; return their number."""
    kept = 0
    for j in range(count):
        key = keys[j]
        keys[kept] = key
        kept += key <= bound
    return kept


@jit()
def keep_smallest(keys: Keys, count: int, k: int) -> None:
    """Move the ``k`` smallest of ``keys[:count]`` to the front."""
    if k <= 0 or count <= k:
        return
    if count > MOST_COUNTED:
        select_smallest(keys, count, k)
    else:
        keep_within(keys, count, bound_of(keys, count, k, 0))


@jit()
def reached_by(values: NDArray[Any], k: int) -> Any:
    """Return a number that ``k`` of the values reach, a little below the k-th largest; -inf where one is infinite.

    No value is NaN, and there are at least ``k``.
    """
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return values.dtype.type(-np.inf)
    half = values.dtype.type(0.5)
    for _ in range(_ROUNDS):
        middle = half * low + half * high
        found = 0
        for j in range(len(values)):
            found += values[j] >= middle
        if found >= k:
            low = middle
        else:
            high = middle
    return low


@jit()
def write_sorted(keys: Keys, count: int, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
    """Write ``keys[:count]`` out in order, padded with id -1 and score -inf; there are at most as many as places."""
    if count > _MOST_RANKED:
        keys[:count].sort()
    for j in range(count):
        key = keys[j]
        place = j
        if count <= _MOST_RANKED:
            place = 0
            for i in range(count):
                place += keys[i] < key
        scores[place] = key_score(key)
        ids[place] = key_item(key)
    for j in range(count, len(ids)):
        scores[j] = -np.inf
        ids[j] = -1
