"""Philox4x32-10 counter-based random bits, in numpy: the truth that C++ and numba agree with.

A draw is a pure function of a 64-bit key and a 128-bit counter, so it does not depend on threads,
batch order or what was drawn before. Constants and round function: Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3" (SC'11).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

U32 = NDArray[np.uint32]

_MULTIPLIER_0 = np.uint64(0xD2511F53)
_MULTIPLIER_1 = np.uint64(0xCD9E8D57)
_WEYL_0 = 0x9E3779B9
_WEYL_1 = 0xBB67AE85
_MASK = np.uint64(0xFFFFFFFF)
_ROUNDS = 10


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: int) -> tuple[U32, U32, U32, U32]:
    """Return four ``uint32`` words for each (broadcast) counter.

    ``counter``: four arrays of 32-bit words, least significant first. ``key``: 64 bits; the low half
    is the first key word.
    """
    words = np.broadcast_arrays(*(np.asarray(c, dtype=np.uint64) & _MASK for c in counter))
    c0, c1, c2, c3 = (w.copy() for w in words)
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & _MASK,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & _MASK,
        )
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    return c0.astype(np.uint32), c1.astype(np.uint32), c2.astype(np.uint32), c3.astype(np.uint32)


def uniform_open(words: U32) -> NDArray[np.float64]:
    """Map 32-bit words to the open interval (0, 1): ``(word + 0.5) / 2**32``; never 0, never 1."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32
