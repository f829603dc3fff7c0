"""Arithmetic shared by the kernels of ``rank_topk``: rounding, norms, the margin, orders and keys.

The margin (a proof, term by term). A filter score f is what the tensor cores make of the rounded vectors u^, v^ (plus
bias); the canonical score c is the float64 inner product of u, v rounded to float32 (plus bias, in float32). Before the
bias they differ by at most

    |u - u^| |v|  +  |u^| |v - v^|          Cauchy-Schwarz; the residuals are measured on the stored copies
    + g |u^| |v^|,  g = (D + 32) 2^-22      sums: tensor cores align products to the largest one of a block and may
                                            cut, not round, below 24 bits, so each of D additions is allowed 2^-22 of
                                            the largest partial sum, which is at most |u^| |v^|: four times what any
                                            order of correctly rounded additions needs. The 32 pays for rounding c.
    + (D + 64) 2^-120                       flushed subnormals

Adding the bias rounds f and c once more, by 2^-24 of the result: that part is relative to the score, not to the
largest bias, so a mask of -1e9 in the bias costs nothing. See :func:`threshold` and :func:`lower_bound_of`.
A norm or residual that is not finite, or a bound past 1e37, makes the margin infinite: all is then ranked exactly.
"""

from __future__ import annotations

import triton
import triton.language as tl

GUARD = tl.constexpr(1.0 + 2.0**-12)
SLACK = tl.constexpr(2.0**-20)
EMPTY = tl.constexpr(-(2**63))
NAN_ORDER = tl.constexpr(-(2**31) + 1)
LAST_ID = tl.constexpr(2**31 - 1)


@triton.jit
def round_bf16(x):
    """Round float32 to the nearest bfloat16 value, ties to even, still as float32 (interpreter casts truncate)."""
    bits = x.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
    return tl.where(x == x, rounded.to(tl.float32, bitcast=True), x)


@triton.jit
def norm_of(squares, D: tl.constexpr):
    """Return an upper bound of a norm from a float32 sum of D squares; inf for NaN.

    2^-12 covers the roundings of the sum, D 2^-124 the squares that underflowed (their root is at most D 2^-62).
    """
    norm = tl.sqrt_rn(squares) * GUARD + D * 2.0**-62
    return tl.where(norm == norm, norm, float("inf"))


@triton.jit
def margin(un, ur, vn, vr, D: tl.constexpr):
    """Return the bound of |f - c| before the bias, from norms (un, vn) and residual norms (ur, vr)."""
    both = (un + ur) * (vn + vr)
    bound = ur * vn + (un + ur) * vr + (D + 32) * 2.0**-22 * both
    bound = bound * GUARD + (D + 64) * 2.0**-120
    return tl.where(both < 1e37, bound, float("inf"))


@triton.jit
def threshold(tau, bound):
    """Return what a filter score must not fall below to stand for a canonical score >= tau."""
    least = tau - bound * (1.0 + SLACK) - tl.abs(tau) * SLACK
    return tl.where(least == least, least, float("-inf"))


@triton.jit
def lower_bound_of(score, bound):
    """Return a lower bound of the canonical score behind a filter score; -inf for NaN."""
    score = tl.minimum(tl.where(score == score, score, float("-inf")), 3.4e38)
    low = score - bound * (1.0 + SLACK) - tl.abs(score) * SLACK
    return tl.where(low == low, low, float("-inf"))


@triton.jit
def order_of(score):
    """Return int32 in the order of float32 (no NaN)."""
    bits = score.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def score_of(order):
    """Undo :func:`order_of`."""
    return (order ^ ((order >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def key_of(score, item):
    """Return int64 keys: higher score, then lower id is larger; NaN below -inf, all above EMPTY."""
    order = tl.where(score == score, order_of(score + 0.0), NAN_ORDER)
    return (order.to(tl.int64) << 32) | (item * -1 + LAST_ID).to(tl.int64)


@triton.jit
def search(ids_ptr, begin, length, wanted, active):
    """Return per lane the first position in the sorted ``ids[begin : begin + length]`` whose id is >= wanted."""
    low = tl.zeros_like(wanted).to(tl.int64) + begin
    high = low + length
    left = length
    while left > 0:
        middle = (low + high) // 2
        open_ = low < high
        found = tl.load(ids_ptr + middle, mask=active & open_, other=0)
        right = open_ & (found < wanted)
        high = tl.where(open_ & (found >= wanted), middle, high)
        low = tl.where(right, middle + 1, low)
        left = left // 2
    return low


@triton.jit
def window_of(entry, G: tl.constexpr):
    """Return the first item of the window of 4 G items that a group shares with three others."""
    return ((entry & 0x1FFFFFFF) >> 2).to(tl.int32) * (4 * G)


@triton.jit
def member(entry, m, G: tl.constexpr):
    """Return item m of a group. Group q of a window has items 8 j + 2 q + {0, 1}: one thread's columns of the MMA."""
    return window_of(entry, G) + (m // 2) * 8 + (entry & 3).to(tl.int32) * 2 + m % 2
