"""Second half of ``rank_topk``: turn pending groups into exact keys, one program per user.

Rows of the groups are scored in float32 and held against the threshold; what passes and is not excluded waits in
``cand`` [B, Q]; when that is full it is scored canonically, one candidate per lane, and its keys join ``keys`` [B, E].
A full ``keys`` is cut to its k best, which gives an exact threshold. Nothing here can overflow: Q >= R + R and
E >= k + R for R rows a step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._topk_math import EMPTY, key_of, margin, member, round_bf16, score_of, search, threshold
from fastkd.kernels.triton._topk_tighten import group_score


@triton.jit
def resolve(
    x_ptr, items_ptr, bias_ptr, norm_ptr, tau_ptr, count_ptr, pend_ptr, cand_ptr, key_ptr, top_ptr,
    indptr_ptr, indices_ptr, N, C, Q, E, k, row0, limit,
    D: tl.constexpr, BD: tl.constexpr, G: tl.constexpr, R: tl.constexpr, FAST: tl.constexpr, INLINE: tl.constexpr,
    LAST: tl.constexpr,
):  # fmt: skip
    """Resolve users with more than ``limit`` pending groups; unless LAST, cut ``keys`` to k and raise tau."""
    user = tl.program_id(0).to(tl.int64)
    count = tl.load(count_ptr + 2 * user)
    if count > limit:
        kept = tl.load(count_ptr + 2 * user + 1)
        floor = tl.full([], EMPTY, tl.int64)
        tau, coarse, close = _thresholds(norm_ptr, tau_ptr, top_ptr, user, floor, D, INLINE)
        x = x_ptr + user * D
        pend = pend_ptr + user * C
        cand = cand_ptr + user * Q
        keys = key_ptr + user * E
        waiting = 0
        lane = tl.arange(0, R)
        for start in range(0, count, R // G):
            entry = tl.load(pend + start + lane // G, mask=start + lane // G < count, other=0)
            live = (start + lane // G < count) & (~(group_score(entry) < coarse))
            item = member(entry, lane % G, G)
            live = live & (item < N)
            score = _float_scores(x, items_ptr, bias_ptr, item, live, D, BD, R, FAST)
            live = live & (~(score < close))
            if indptr_ptr is not None:  # loaded anew at each step: held in registers they would push others out
                begin = tl.load(indptr_ptr + row0 + user)
                length = tl.load(indptr_ptr + row0 + user + 1) - begin
                at = search(indices_ptr, begin, length, item, live)
                inside = live & (at < begin + length)
                live = live & (~(inside & (tl.load(indices_ptr + at, mask=inside, other=0) == item)))
            tl.store(cand + waiting + tl.cumsum(live.to(tl.int32), 0) - 1, item, mask=live)
            waiting += tl.sum(live.to(tl.int32), 0)
            if (waiting > Q - R) | (start + R // G >= count):
                tl.debug_barrier()
                room = E - R
                if not LAST:
                    room = tl.where(start + R // G >= count, k, room)
                kept, floor = _flush(x, items_ptr, bias_ptr, cand, waiting, keys, kept, floor, k, room, D, R, FAST)
                waiting = 0
                tau, coarse, close = _thresholds(norm_ptr, tau_ptr, top_ptr, user, floor, D, INLINE)
                if not LAST:
                    tl.store(tau_ptr + user, tau)
        tl.store(count_ptr + 2 * user, 0)
        tl.store(count_ptr + 2 * user + 1, kept)


@triton.jit
def _thresholds(norm_ptr, tau_ptr, top_ptr, user, floor, D: tl.constexpr, INLINE: tl.constexpr):
    """Return (tau, what a group's filter score must reach, what a float32 score must reach)."""
    tau = tl.load(tau_ptr + user)
    if floor > EMPTY:
        tau = tl.maximum(tau, _key_score(floor))
    un = tl.load(norm_ptr + 2 * user)
    ur = tl.load(norm_ptr + 2 * user + 1)
    vn = tl.load(top_ptr)
    bound = margin(un, ur, vn, tl.load(top_ptr + 1), D)
    if INLINE:  # entries hold upper bounds already
        bound = tl.where(bound < float("inf"), 0.0, bound)
    # float32 sums in any order, of operands that float32 holds to 2^-24: well inside the terms without residuals.
    return tau, threshold(tau, bound), threshold(tau, margin(un, 0.0, vn, 0.0, D))


@triton.jit
def _key_score(key):
    """Return the score of a key; -inf where it is NaN."""
    score = score_of((key >> 32).to(tl.int32))
    return tl.where(score == score, score, float("-inf"))


@triton.jit
def _float_scores(
    x, items_ptr, bias_ptr, item, live, D: tl.constexpr, BD: tl.constexpr, R: tl.constexpr, FAST: tl.constexpr
):
    score = tl.zeros([R], tl.float32)
    for start in range(0, D, BD):
        d = start + tl.arange(0, BD)
        u = tl.load(x + d, mask=d < D, other=0.0).to(tl.float32)
        rows = items_ptr + item[:, None].to(tl.int64) * D + d[None, :]
        v = tl.load(rows, mask=live[:, None] & (d < D)[None, :], other=0.0).to(tl.float32)
        if FAST:
            u = round_bf16(u)
            v = round_bf16(v)
        score += tl.sum(u[None, :] * v, 1)
    if bias_ptr is not None:
        score += tl.load(bias_ptr + item, mask=live, other=0.0).to(tl.float32)
    return score


@triton.jit
def _canonical(x, items_ptr, bias_ptr, item, live, D: tl.constexpr, R: tl.constexpr, FAST: tl.constexpr):
    """Return canonical scores: float64 sums in order of d, rounded to float32; plus bias in float32.

    Products of float32 values are exact in float64, so fusing changes no bit; for float64 values the launcher turns
    fusing off.
    """
    total = tl.zeros([R], tl.float64)
    rows = items_ptr + item.to(tl.int64) * D
    for d in range(D):
        u = tl.load(x + d)
        v = tl.load(rows + d, mask=live, other=0.0)
        if FAST:
            u = round_bf16(u.to(tl.float32))
            v = round_bf16(v.to(tl.float32))
        total += u.to(tl.float64) * v.to(tl.float64)
    score = total.to(tl.float32)
    if bias_ptr is not None:
        score += tl.load(bias_ptr + item, mask=live, other=0.0).to(tl.float32)
    return score


@triton.jit
def _flush(
    x, items_ptr, bias_ptr, cand, waiting, keys, kept, floor, k, room,
    D: tl.constexpr, R: tl.constexpr, FAST: tl.constexpr,
):  # fmt: skip
    """Score ``cand[:waiting]`` canonically and add the keys above ``floor``; return (number of keys, floor).

    At most ``room`` >= k keys are left, so that R more fit; where it is k, the floor is exact.
    """
    for start in range(0, waiting, R):
        lane = start + tl.arange(0, R)
        item = tl.load(cand + lane, mask=lane < waiting, other=0)
        key = key_of(_canonical(x, items_ptr, bias_ptr, item, lane < waiting, D, R, FAST), item)
        keep = (lane < waiting) & (key > floor)
        tl.store(keys + kept + tl.cumsum(keep.to(tl.int32), 0) - 1, key, mask=keep)
        kept += tl.sum(keep.to(tl.int32), 0)
        tl.debug_barrier()
        if kept > room:
            kept, floor = _cut(keys, kept, k, R)
    return kept, floor


@triton.jit
def _cut(keys, kept, k, R: tl.constexpr):
    """Keep exactly the k best of more than k keys (no two are equal); return (k, the least of them)."""
    low = tl.full([], EMPTY, tl.int64)
    high = tl.full([], 2**63 - 1, tl.int64)
    while low < high:
        middle = (low | high) - ((low ^ high) >> 1)  # half way, rounded up, without the overflow of a sum
        reached = 0
        for start in range(0, kept, 4 * R):
            lane = start + tl.arange(0, 4 * R)
            key = tl.load(keys + lane, mask=lane < kept, other=EMPTY)
            reached += tl.sum((key >= middle).to(tl.int32), 0)
        low = tl.where(reached >= k, middle, low)
        high = tl.where(reached >= k, tl.where(reached == k, middle, high), middle - 1)
    out = 0
    floor = tl.full([], 2**63 - 1, tl.int64)
    for start in range(0, kept, R):
        lane = start + tl.arange(0, R)
        key = tl.load(keys + lane, mask=lane < kept, other=EMPTY)
        keep = (lane < kept) & (key >= low)
        place = out + tl.cumsum(keep.to(tl.int32), 0) - 1
        tl.debug_barrier()
        tl.store(keys + place, key, mask=keep)
        out += tl.sum(keep.to(tl.int32), 0)
        floor = tl.minimum(floor, tl.min(tl.where(keep, key, 2**63 - 1), 0))
    tl.debug_barrier()
    return out, floor
