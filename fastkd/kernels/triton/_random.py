"""Deterministic numbers and look-ups that the sampling kernels share.

Launch kernels that call :func:`log` with ``enable_fp_fusion=False``: a multiplication and an addition fused into one
rounding would make other keys than the other backends make.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LN2 = tl.constexpr(0.6931471805599453)
_SQRT_HALF = tl.constexpr(0.7071067811865476)


@triton.jit
def _constant(value: tl.constexpr):
    """Return a float64 constant; a bare one would be a float32."""
    return tl.full((), value, tl.float64)


@triton.jit
def log(x):
    """Return the logarithm of a positive normal float64 by the reference's operations in the reference's order."""
    bits = x.to(tl.int64, bitcast=True)
    mantissa = ((bits & 0x000FFFFFFFFFFFFF) | 0x3FE0000000000000).to(tl.float64, bitcast=True)
    low = mantissa < _constant(_SQRT_HALF)
    mantissa = tl.where(low, mantissa + mantissa, mantissa)
    power = ((bits >> 52) - 1022 - low.to(tl.int64)).to(tl.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = z * 0.0 + _constant(2.0 / 21)
    series = series * z + _constant(2.0 / 19)
    series = series * z + _constant(2.0 / 17)
    series = series * z + _constant(2.0 / 15)
    series = series * z + _constant(2.0 / 13)
    series = series * z + _constant(2.0 / 11)
    series = series * z + _constant(2.0 / 9)
    series = series * z + _constant(2.0 / 7)
    series = series * z + _constant(2.0 / 5)
    series = series * z + _constant(2.0 / 3)
    series = series * z + 2.0
    return s * series + power * _constant(_LN2)


@triton.jit
def lower_bound(sorted_ids, first, last, values):
    """Return for each value where the first id not below it is, in ``[first, last]``; all int64, ids ascending."""
    low = values * 0 + first
    high = values * 0 + last
    span = last - first
    while span > 0:
        middle = (low + high) >> 1
        open_ = low < high
        smaller = tl.load(sorted_ids + middle, mask=open_, other=0).to(tl.int64) < values
        low = tl.where(open_ & smaller, middle + 1, low)
        high = tl.where(open_ & (smaller == 0), middle, high)
        span = span >> 1
    return low


@triton.jit
def among(sorted_ids, first, last, values):
    """Return whether each value is one of the ascending ids ``sorted_ids[first:last]``."""
    at = lower_bound(sorted_ids, first, last, values)
    inside = at < last
    return inside & (tl.load(sorted_ids + at, mask=inside, other=-1).to(tl.int64) == values)
