"""Cutting a buffer of candidates back to its best, and sorting them, by counting: loops without branches to guess.

A quickselect or a quicksort of keys spends its time on branches guessed wrong. To halve an interval of keys and count
those below its middle is a dozen passes of vector compares instead, and a fifth of the time; where there are thousands
of keys, a histogram of them comes first. Digits of eight bits sort them, and skip what all keys have in common.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import Keys, key_item, key_score

_MOST_COUNTED = 2048
_MOST_RANKED = 320
_BUCKET_BITS = 10
_DIGIT = 8
_ROUNDS = 12
_ONE = np.uint64(1)
_DIGIT_MASK = np.uint64((1 << _DIGIT) - 1)


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
    while count > _MOST_COUNTED:
        low, high, keys, below = _bucket_of(keys, count, k, low, high)
        count, k = len(keys), k - below
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
def _bucket_of(keys: Keys, count: int, k: int, low: Any, high: Any) -> tuple[Any, Any, Keys, int]:
    """Cut [low, high] into equal buckets; return ends and keys of the one with the k-th smallest, and how many precede.

    Keys are unlike each other, so an interval a thousandth as wide soon holds few of them.
    """
    bits = 0
    while bits < 64 and (high - low) >> np.uint64(bits):
        bits += 1
    shift = np.uint64(max(bits - _BUCKET_BITS, 0))
    sizes = np.zeros(1 << _BUCKET_BITS, dtype=np.int64)
    for j in range(count):
        sizes[np.int64((keys[j] - low) >> shift)] += 1
    below, bucket = 0, 0
    while below + sizes[bucket] < k:
        below += sizes[bucket]
        bucket += 1
    first = low + (np.uint64(bucket) << shift)
    last = high if high - first < (_ONE << shift) else first + ((_ONE << shift) - _ONE)  # may not pass 2^64
    inside = np.empty(sizes[bucket] + 1, dtype=np.uint64)
    kept = 0
    for j in range(count):
        inside[kept] = keys[j]
        kept += first <= keys[j] <= last
    return first, last, inside[: sizes[bucket]], below


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
        sort_keys(keys, count)
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


@jit()
def sort_keys(keys: Keys, count: int) -> None:
    """Sort ``keys[:count]``: stable passes over digits of eight bits, without those in which all keys agree."""
    differ = np.uint64(0)
    for j in range(count):
        differ |= keys[j] ^ keys[0]
    spare = np.empty(count, dtype=np.uint64)
    source, target, moved = keys, spare, False
    for shift in range(0, 64, _DIGIT):
        if (differ >> np.uint64(shift)) & _DIGIT_MASK:
            _by_digit(source, target, count, np.uint64(shift))
            source, target, moved = target, source, not moved
    if moved:
        keys[:count] = spare


@jit()
def _by_digit(keys: Keys, out: Keys, count: int, shift: Any) -> None:
    places = np.zeros((1 << _DIGIT) + 1, dtype=np.int64)
    for j in range(count):
        places[np.int64((keys[j] >> shift) & _DIGIT_MASK) + 1] += 1
    for digit in range(1 << _DIGIT):
        places[digit + 1] += places[digit]
    for j in range(count):
        place = np.int64((keys[j] >> shift) & _DIGIT_MASK)
        out[places[place]] = keys[j]
        places[place] += 1
