"""e^x for x <= 0, in arithmetic that LLVM turns into vector code: a call of the C library's exp stays scalar."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]

LOWEST = -1e300
"""Stands for the largest of no scores: below every score, and finite, so that no difference is inf - inf."""

_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_ROUND = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the nearest integer in the low bits
_C = tuple(1.0 / f for f in (1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600))


@jit(fastmath={"contract"}, inline="always")
def exp(x: float) -> float:
    """Return e^x in float64 for x <= 0, within two roundings; 0 below -708, NaN for NaN.

    x = n ln 2 + r with |r| <= ln(2) / 2: a Taylor sum of degree 12 for e^r, 2^n by its bits.
    """
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _C[12] * r + _C[11]
    p = p * r + _C[10]
    p = p * r + _C[9]
    p = p * r + _C[8]
    p = p * r + _C[7]
    p = p * r + _C[6]
    p = p * r + _C[5]
    p = p * r + _C[4]
    p = p * r + _C[3]
    p = p * r + _C[2]
    p = p * r + 1.0
    p = p * r + 1.0
    power = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
    return 0.0 if x < -708.0 else p * power


@jit()
def largest(scores: Floats) -> float:
    """Return the largest score, LOWEST if there is none or NaN alone."""
    a, b, c, d = LOWEST, LOWEST, LOWEST, LOWEST
    whole = len(scores) & ~3
    for j in range(0, whole, 4):
        a = scores[j] if scores[j] > a else a
        b = scores[j + 1] if scores[j + 1] > b else b
        c = scores[j + 2] if scores[j + 2] > c else c
        d = scores[j + 3] if scores[j + 3] > d else d
    for j in range(whole, len(scores)):
        a = scores[j] if scores[j] > a else a
    return np.float64(max(max(a, b), max(c, d)))


@jit()
def exps(scores: Floats, top: float, out: Floats) -> None:
    """Write e^(score - top); 0 for -inf."""
    for j in range(len(scores)):
        out[j] = exp(np.float64(scores[j]) - top)


@jit(fastmath={"reassoc"})
def total(values: Floats, count: int) -> float:
    """Return the sum of the first ``count`` values, in vector lanes."""
    result = 0.0
    for j in range(count):
        result += values[j]
    return result
