"""Philox4x32-10 for numba kernels: the same words as :func:`fastkd.core.philox.philox4x32`.

Device functions; every argument and result is ``np.uint64`` holding a 32-bit word, because numba turns
mixed signed and unsigned 64-bit arithmetic into floats. :func:`words_of` and :func:`word` make such words.
"""

from __future__ import annotations

import numpy as np

from fastkd.kernels.numba._jit import jit

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def words_of(key: int) -> tuple[np.uint64, np.uint64]:
    """Return the two key words (low, high) of a 64-bit key, for passing into a kernel."""
    return np.uint64(key & 0xFFFFFFFF), np.uint64((key >> 32) & 0xFFFFFFFF)


@jit(inline="always")
def word(value: int) -> np.uint64:
    """Return the low 32 bits of a signed 64-bit integer as a word."""
    return np.uint64(value) & _MASK


@jit(inline="always")
def high_word(value: int) -> np.uint64:
    """Return the high 32 bits of a signed 64-bit integer as a word."""
    return np.uint64(value) >> _SHIFT


# Inlined as source: a loop over counters then becomes vector code, six times as fast.
@jit(inline="always")
def philox4x32(
    c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Return the four 32-bit words of counter (c0, c1, c2, c3), least significant first, under key (k0, k1)."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _MASK, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _MASK
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@jit(inline="always")
def uniform_open(bits: np.uint64) -> float:
    """Map a 32-bit word to the open interval (0, 1): ``(word + 0.5) / 2**32``."""
    return (np.float64(bits) + 0.5) * 2.0**-32


@jit(inline="always")
def uniform_double(first: np.uint64, second: np.uint64) -> float:
    """Map two 32-bit words to a 52-bit uniform in the open interval (0, 1).

    ``((first >> 6) * 2**26 + (second >> 6) + 0.5) / 2**52``: 52 bits and not 53, so that the half is exact.
    """
    return (np.float64(((first >> np.uint64(6)) << np.uint64(26)) | (second >> np.uint64(6))) + 0.5) * 2.0**-52
