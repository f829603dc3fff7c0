"""Exponential, logarithm and maximum that LLVM turns into vector code, for kernels that touch every score.

``math.exp`` is a call per number. In float32 these are polynomials after exact range reduction, within 2 units in the
last place of the true value; in float64, where only tests and gradient checks go, they are the C library's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

LOG2_E = np.float32(1.44269504)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
# Adding 1.5 * 2**23 leaves a float32's nearest integer in its low bits.
ROUND = np.float32(12582912.0)
SMALLEST = np.float32(-87.0)
HALF_ROOT = np.float32(0.70710678)


def exp(x: Any) -> Any:
    """Return e^x for x <= 88: 0 below -87 in float32, NaN for NaN."""
    return math.exp(x)


@overload(exp, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _exp(x: Any) -> Callable[[Any], Any]:
    if x != types.float32:

        def exp64(x: Any) -> Any:
            return math.exp(x)

        return exp64

    def exp32(x: Any) -> Any:
        shifted = x * LOG2_E + ROUND
        n = shifted - ROUND
        r = (x - n * LN2_HIGH) - n * LN2_LOW
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        y = (p * r) * r + r + np.float32(1.0)
        power = np.int32((np.float32(shifted).view(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)
        return np.float32(0.0) if x < SMALLEST else y * power

    return exp32


def log1p_of_ratio(x: Any) -> Any:
    """Return log(1 + x) for 0 <= x <= 1, NaN for NaN."""
    return math.log1p(x)


@overload(log1p_of_ratio, jit_options={"error_model": "numpy", "fastmath": {"contract"}})
def _log1p_of_ratio(x: Any) -> Callable[[Any], Any]:
    if x != types.float32:

        def log1p64(x: Any) -> Any:
            return math.log1p(x)

        return log1p64

    def log1p32(x: Any) -> Any:
        # 2 artanh(x / (2 + x)), argument at most 1/3: odd series to its 17th power.
        t = x / (np.float32(2.0) + x)
        s = t * t
        p = np.float32(1.0 / 17.0)
        p = p * s + np.float32(1.0 / 15.0)
        p = p * s + np.float32(1.0 / 13.0)
        p = p * s + np.float32(1.0 / 11.0)
        p = p * s + np.float32(1.0 / 9.0)
        p = p * s + np.float32(1.0 / 7.0)
        p = p * s + np.float32(1.0 / 5.0)
        p = p * s + np.float32(1.0 / 3.0)
        return np.float32(2.0) * (t + t * s * p)

    return log1p32


def maximum(row: Any) -> Any:
    """Return the largest of a row, NaN if it holds one, -inf if it is empty."""
    return max(row)


@overload(maximum, jit_options={"error_model": "numpy"})
def _maximum(row: Any) -> Callable[[Any], Any]:
    if row.dtype != types.float32:

        def maximum64(row: Any) -> Any:
            best = -np.inf
            for j in range(len(row)):
                if not row[j] <= best:
                    best = row[j]
                    if best != best:
                        break
            return best

        return maximum64

    def maximum32(row: Any) -> Any:
        # As integers with the order of the floats: a float maximum is not vectorised while NaN counts.
        bits = row.view(np.int32)
        best, absolute = np.int32(-2139095041), np.int32(0)
        for j in range(len(bits)):
            b = bits[j]
            best = max(best, b ^ ((b >> np.int32(31)) & np.int32(0x7FFFFFFF)))
            absolute = max(absolute, b & np.int32(0x7FFFFFFF))
        if absolute > np.int32(0x7F800000):
            return np.float32(np.nan)
        return np.int32(best ^ ((best >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)

    return maximum32
