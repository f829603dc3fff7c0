"""The logistic function and its logarithm, in arithmetic that LLVM turns into vector code, in the dtype of the number.

float32 has its own polynomials: sixteen numbers fit one vector where float64 has eight, and need half the terms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fastkd.kernels.numba._exp import exp
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log1p import log1p

_LOG2_E, _LN2_HIGH, _LN2_LOW = np.float32(1.44269504), np.float32(0.693145752), np.float32(1.42860677e-6)
_ROUND = np.float32(12582912.0)  # 1.5 * 2^23: adding it leaves the nearest integer in the low bits
_LOWEST = np.float32(-104.0)  # e^-104 is half of the smallest number of all, 2^-149
_ZERO, _ONE = np.float32(0), np.float32(1)
_E = tuple(np.float32(c) for c in (0.5, 0.1666666716, 0.0416662171, 0.0083332658, 0.0013948701, 0.00019916019))
# (log(1 + e) / e - 1) / e, fitted at Chebyshev's points of [0, 1] for a relative error of 1e-9
_L = tuple(
    np.float32(c)
    for c in (
        -0.4999998211860657, 0.33332568407058716, -0.24987392127513885, 0.19891537725925446, -0.1610863208770752,
        0.12425103038549423, -0.08253533393144608, 0.04155762121081352, -0.013444830663502216, 0.0020376904867589474,
    )
)  # fmt: skip


@jit(fastmath={"contract"}, inline="always")
def exp_single(x: Any) -> Any:
    """Return e^x in float32 for x <= 0, within two roundings, the smallest numbers included; NaN for NaN."""
    shifted = x * _LOG2_E + _ROUND
    n = shifted - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = _E[5] * r + _E[4]
    p = p * r + _E[3]
    p = p * r + _E[2]
    p = p * r + _E[1]
    p = p * r + _E[0]
    p = (r * r) * p + r
    # 2^n in two factors: what is below 2^-126 has no bits of its own for n.
    bits = np.float32(shifted).view(np.int32) - np.int32(0x4B400000)
    half = np.int32(bits >> np.int32(1))
    first = np.int32((half + np.int32(127)) << np.int32(23)).view(np.float32)
    second = np.int32((bits - half + np.int32(127)) << np.int32(23)).view(np.float32)
    return _ZERO if x < _LOWEST else ((p + _ONE) * first) * second


@jit(fastmath={"contract"}, inline="always")
def log1p_single(e: Any) -> Any:
    """Return log(1 + e) in float32 for 0 <= e <= 1, within a rounding, however small e is; NaN for NaN."""
    p = _L[9] * e + _L[8]
    p = p * e + _L[7]
    p = p * e + _L[6]
    p = p * e + _L[5]
    p = p * e + _L[4]
    p = p * e + _L[3]
    p = p * e + _L[2]
    p = p * e + _L[1]
    p = p * e + _L[0]
    return (e * e) * p + e


def exp_of(x: Any) -> Any:
    """Return e^x for x <= 0 in the dtype of x."""
    raise NotImplementedError("for kernels alone")


def logistic(x: Any) -> Any:
    """Return (log(1 + e^-|x|), sigma(x), sigma(-x)), each with a small relative error, in the dtype of x.

    ``-log sigma(x)`` is the first plus ``max(-x, 0)``: added by the caller, who may want the other sign too.
    """
    raise NotImplementedError("for kernels alone")


@overload(exp_of, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _exp_of(x: Any) -> Any:
    def single(x: Any) -> Any:
        return exp_single(x)

    def double(x: Any) -> Any:
        return exp(x)

    return single if x == types.float32 else double


@overload(logistic, jit_options={"fastmath": {"contract"}, "error_model": "numpy"})
def _logistic(x: Any) -> Any:
    def single(x: Any) -> Any:
        e = exp_single(-abs(x))
        much = _ONE / (_ONE + e)
        little = e * much
        return log1p_single(e), (much if x >= _ZERO else little), (little if x >= _ZERO else much)

    def double(x: Any) -> Any:
        e = exp(-abs(x))
        much = 1.0 / (1.0 + e)
        little = e * much
        return log1p(e), (much if x >= 0.0 else little), (little if x >= 0.0 else much)

    return single if x == types.float32 else double
