"""Selection by one total order: higher score first, then lower item id; NaN scores last.

A candidate is one ``uint64`` key, ``descending(score) << 32 | item``: smaller keys rank first, no two
candidates are equal, and sorting keys sorts candidates. Items therefore number below 2**32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit

Keys = NDArray[np.uint64]

MAX_ITEMS = 2**32 - 1
"""Largest catalogue whose ids fit a key."""

_SIGN = np.uint32(0x80000000)
_LOW31 = np.uint32(0x7FFFFFFF)
_NAN_KEY = np.uint32(0xFFFFFFFF)
_MASK32 = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


@jit(inline="always")
def descending(score: Any) -> Any:
    """Map a float32 score to uint32, higher scores to smaller values, -0.0 like 0.0, NaN to the largest."""
    if score != score:
        return _NAN_KEY
    bits = np.float32(np.float32(score) + np.float32(0.0)).view(np.uint32)
    return np.uint32(bits if bits & _SIGN else _LOW31 - bits)


@jit(inline="always")
def make_key(score: Any, item: int) -> Any:
    """Return the key of a float32 score and an item id."""
    return (np.uint64(descending(score)) << _SHIFT) | np.uint64(item)


@jit(inline="always")
def key_score(key: Any) -> Any:
    """Return the float32 score of a key."""
    bits = np.uint32(key >> _SHIFT)
    if bits == _NAN_KEY:
        return np.float32(np.nan)
    return np.uint32(bits if bits & _SIGN else _LOW31 - bits).view(np.float32)


@jit(inline="always")
def key_item(key: Any) -> int:
    """Return the item id of a key."""
    return np.int64(key & _MASK32)  # type: ignore[return-value]


@jit()
def select_smallest(keys: NDArray[Any], count: int, k: int) -> Any:
    """Move the ``k`` smallest of ``keys[:count]`` to the front, in no order; return the largest of them.

    Keys are of any ordered type (no NaN); runs of equal ones cost no more than others.
    """
    low, high, target = 0, count - 1, k - 1
    while low < high:
        a, b, c = keys[low], keys[(low + high) >> 1], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return keys[target]


@jit()
def write_row(keys: Keys, count: int, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> None:
    """Sort ``keys[:count]`` and write them out, padded with id -1 and score -inf."""
    k = len(ids)
    keys[:count].sort()
    for j in range(min(count, k)):
        scores[j] = key_score(keys[j])
        ids[j] = key_item(keys[j])
    for j in range(count, k):
        scores[j] = -np.inf
        ids[j] = -1
