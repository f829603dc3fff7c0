"""Look-ups of the uniform sampler: a slot's words, and which items a user's exclusions leave."""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._random import among, lower_bound
from fastkd.kernels.triton.philox import below, philox4x32


@triton.jit
def slot_value(low, high, slot, attempt, bound, k0, k1):
    """Return the value below ``bound`` of a slot at an attempt, and whether Lemire's test lets its word pass."""
    block = (slot >> 2).to(tl.uint32)
    w0, w1, w2, w3 = philox4x32(low + block * 0, high + block * 0, block, (attempt + slot * 0).to(tl.uint32), k0, k1)
    even, odd = tl.where((slot & 2) == 0, w0, w2), tl.where((slot & 2) == 0, w1, w3)
    return below(tl.where((slot & 1) == 0, even, odd), bound)


@triton.jit
def excluded(item, indices, first, last, extra, extra_first, extra_last, EXTRA: tl.constexpr):
    """Return whether items are in the history or in the cleaned extra list."""
    seen = among(indices, first, last, item)
    if EXTRA:
        seen = seen | among(extra, extra_first, extra_last, item)
    return seen


@triton.jit
def _upto(item, indices, first, last, extra, extra_first, extra_last, EXTRA: tl.constexpr):
    """Return how many excluded items are at most ``item``."""
    count = lower_bound(indices, first, last, item + 1) - first
    if EXTRA:
        count += lower_bound(extra, extra_first, extra_last, item + 1) - extra_first
    return count


@triton.jit
def nth_left(rank, N, indices, first, last, extra, extra_first, extra_last, EXTRA: tl.constexpr):
    """Return the item of each 0-based rank among those not excluded, ascending."""
    low = rank
    high = rank * 0 + (N - 1)
    span = N
    while span > 0:
        middle = (low + high) >> 1
        left = middle + 1 - _upto(middle, indices, first, last, extra, extra_first, extra_last, EXTRA)
        low = tl.where((low < high) & (left <= rank), middle + 1, low)
        high = tl.where((low < high) & (left > rank), middle, high)
        span = span >> 1
    return low


@triton.jit
def nth_free(rank, N, drawn, indices, first, last, extra, extra_first, extra_last, EXTRA: tl.constexpr):
    """Return the item of one rank among those neither excluded nor in ``drawn`` (-1: nothing)."""
    low = rank
    high = rank * 0 + (N - 1)
    while low < high:
        middle = (low + high) >> 1
        left = middle + 1 - _upto(middle, indices, first, last, extra, extra_first, extra_last, EXTRA)
        left -= tl.sum(((drawn >= 0) & (drawn <= middle)).to(tl.int64), axis=0)
        if left <= rank:
            low = middle + 1
        else:
            high = middle
    return low
