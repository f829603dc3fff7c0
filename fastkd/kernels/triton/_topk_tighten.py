"""Raise each user's proved threshold from the groups kept so far, and drop what falls below it."""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._topk_math import lower_bound_of, margin, order_of, score_of, search, threshold, window_of

CLEAN = tl.constexpr(1 << 29)
MIXED = tl.constexpr(1 << 30)


@triton.jit
def tighten(
    norm_ptr, tau_ptr, count_ptr, pend_ptr, top_ptr, indptr_ptr, indices_ptr, N, C, k, row0,
    D: tl.constexpr, G: tl.constexpr, T: tl.constexpr, INLINE: tl.constexpr,
):  # fmt: skip
    """One program per user. tau rises to the k-th largest lower bound of clean groups, if there are k.

    A group is clean if none of the items of its window is excluded for the user or past N. Its largest score then
    belongs to an item that may be returned, and k clean groups name k of them, each at or above its lower bound.
    pend [B, C] is compacted in place, T entries at a time; the verdict on a group is kept in two bits of its entry.
    """
    user = tl.program_id(0)
    count = tl.load(count_ptr + 2 * user)
    if count > 0:
        un = tl.load(norm_ptr + 2 * user)
        ur = tl.load(norm_ptr + 2 * user + 1)
        bound = margin(un, ur, tl.load(top_ptr), tl.load(top_ptr + 1), D)
        tau = tl.load(tau_ptr + user)
        row = pend_ptr + user.to(tl.int64) * C
        # INLINE entries hold upper bounds: score plus at most one margin.
        above = bound * 0.0 if INLINE else bound
        below = bound * 2.0 if INLINE else bound
        above = tl.where(above == above, above, float("inf"))
        if indptr_ptr is not None:
            begin = tl.load(indptr_ptr + row0 + user)
            length = tl.load(indptr_ptr + row0 + user + 1) - begin
        else:
            begin = tl.zeros([], tl.int64)
            length = tl.zeros([], tl.int64)
        count, clean, highest = _judge(
            row, count, threshold(tau, above), below, indices_ptr, begin, length, N, G, T, indptr_ptr is not None
        )
        if (clean >= k) & (highest > order_of(tau)):
            raised = score_of(_kth(row, count, k, order_of(tau), highest, below, T))
            if raised > tau:
                tl.store(tau_ptr + user, raised)
                count = _drop(row, count, threshold(raised, above), T)
        tl.store(count_ptr + 2 * user, count)


@triton.jit
def group_score(entry):
    """Return the score in the upper half of an entry."""
    return (entry >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _judge(
    row, count, least, below, indices_ptr, begin, length, N,
    G: tl.constexpr, T: tl.constexpr, EXCLUDE: tl.constexpr,
):  # fmt: skip
    """Compact to entries that reach ``least``, with their verdicts; return (count, clean ones, highest lower bound)."""
    kept = 0
    clean_count = 0
    highest = -(2**31)
    for start in range(0, count, T):
        lane = start + tl.arange(0, T)
        entry = tl.load(row + lane, mask=lane < count, other=0)
        score = group_score(entry)
        keep = (lane < count) & (~(score < least))
        window = window_of(entry, G)
        mixed = (entry & MIXED) != 0
        if EXCLUDE:
            new = keep & ((entry & (CLEAN | MIXED)) == 0)
            at = search(indices_ptr, begin, length, window, new)
            nearest = tl.load(indices_ptr + at, mask=new & (at < begin + length), other=0)
            mixed = mixed | (new & (at < begin + length) & (nearest < window + 4 * G))
        mixed = mixed | (window + 4 * G > N)
        entry = tl.where(mixed, entry | MIXED, entry | CLEAN)
        clean = keep & (~mixed)
        clean_count += tl.sum(clean.to(tl.int32), 0)
        low = tl.where(clean, order_of(lower_bound_of(score, below)), -(2**31))
        highest = tl.maximum(highest, tl.max(low, 0))
        kept = _store(row, kept, entry, keep)
    tl.debug_barrier()
    return kept, clean_count, highest


@triton.jit
def _store(row, kept, entry, keep):
    """Write the kept entries of a tile from ``row[kept]`` on; every lane has read before any writes."""
    place = kept + tl.cumsum(keep.to(tl.int32), 0) - 1
    tl.debug_barrier()
    tl.store(row + place, entry, mask=keep)
    return kept + tl.sum(keep.to(tl.int32), 0)


@triton.jit
def _drop(row, count, least, T: tl.constexpr):
    kept = 0
    for start in range(0, count, T):
        lane = start + tl.arange(0, T)
        entry = tl.load(row + lane, mask=lane < count, other=0)
        kept = _store(row, kept, entry, (lane < count) & (~(group_score(entry) < least)))
    return kept


@triton.jit
def _kth(row, count, k, low, high, below, T: tl.constexpr):
    """Return a value that at least k clean lower bounds reach (as order_of), the largest such by bisection.

    ``low`` is always reached by k or is the old threshold. Stops early where exactly k reach the middle.
    """
    low = low.to(tl.int64)
    high = high.to(tl.int64)
    while low < high:
        middle = high - (high - low) // 2
        reached = 0
        for start in range(0, count, T):
            lane = start + tl.arange(0, T)
            entry = tl.load(row + lane, mask=lane < count, other=MIXED)
            bits = order_of(lower_bound_of(group_score(entry), below))
            reached += tl.sum((((entry & MIXED) == 0) & (bits >= middle)).to(tl.int32), 0)
        enough = reached >= k
        low = tl.where(enough, middle, low)
        high = tl.where(enough, tl.where(reached == k, middle, high), middle - 1)
    return low.to(tl.int32)
