"""Kernels of two softmaxes over a whole catalogue, the student's p from scores s and the teacher's q from scores t.

    B users, N items, D and E dimensions of student and teacher, S ranges of items, BM x BN a tile

Scores are in units of log 2. ``stats`` [6, B]: largest score and log2 of the mass of the student, of the teacher, and
in two parts the centre that a score's gradient is measured from. Excluded items and lanes past the end are at -inf in
both tiles.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._catalogue_tile import (
    LN_2,
    exclude,
    first_excluded,
    load_rows,
    log2_scores,
    product,
    tile_scores,
)

CROSS_ENTROPY = tl.constexpr(0)
FORWARD_KL = tl.constexpr(1)
REVERSE_KL = tl.constexpr(2)
JENSEN_SHANNON = tl.constexpr(3)


@triton.jit
def _pair(
    a, a_table, ta, ta_table, a_rows, a_count, b, b_table, tb, tb_table, b_rows, b_count, D, E, scale,
    BD: tl.constexpr, CHUNKS: tl.constexpr, BE: tl.constexpr, T_CHUNKS: tl.constexpr,
    EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the tiles of student and teacher scores."""
    s = tile_scores(a, a_table, a_rows, a_count, b, b_table, b_rows, b_count, D, BD, CHUNKS, EXACT, PRECISION)
    t = tile_scores(ta, ta_table, a_rows, a_count, tb, tb_table, b_rows, b_count, E, BE, T_CHUNKS, EXACT, PRECISION)
    s, t = log2_scores(s, scale, None, EXACT, False), log2_scores(t, scale, None, EXACT, False)
    inside = (a_rows < a_count)[:, None] & (b_rows < b_count)[None, :]
    return tl.where(inside, s, float("-inf")), tl.where(inside, t, float("-inf"))


@triton.jit
def _gap(x, y):
    """Return ``log2(p / m)`` for ``x = log2 p``, ``y = log2 q``, ``m = (p + q) / 2``."""
    return 1.0 - tl.log2(1.0 + tl.exp2(-tl.abs(x - y))) - tl.maximum(y - x, 0.0)


@triton.jit
def _weights(s, t, top_s, mass_s, top_t, mass_t, centre, upstream, KIND: tl.constexpr):
    """Return ``upstream dloss/ds``; the statistics come shaped to broadcast."""
    there = s != float("-inf")
    s, t = tl.where(there, s, top_s), tl.where(there, t, top_t)
    x, y = (s - top_s) - mass_s, (t - top_t) - mass_t
    p = tl.exp2(x)
    if KIND == REVERSE_KL:
        value = p * ((s.to(tl.float64) - t.to(tl.float64)) - centre).to(p.dtype) * LN_2
    elif KIND == JENSEN_SHANNON:
        value = p * (_gap(x, y) - centre.to(p.dtype)) * (0.5 * LN_2)
    else:
        value = p - tl.exp2(y)
    return tl.where(there, value * upstream, 0.0)


@triton.jit
def pair_users(
    users, items, t_users, t_items, bounds, indices, stats, upstream, sums, means, B, N, D, E, per_range, ranges,
    scale, steps, KIND: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, CHUNKS: tl.constexpr,
    BE: tl.constexpr, T_CHUNKS: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Let a program own BM users and a range of items.

    Without ``stats``: write ``sums`` [7, S, B]: largest scores, masses, the sum of a distribution times a difference
    relative to the largest scores, and of the student's times ``s - t`` in two parts, what its
    gradient is measured from.
    With ``stats`` and ``sums``: write [2, S, B], the sums of ``p log2(p / m)`` and ``q log2(q / m)``.
    With ``means`` [S, B, D]: write the sum of each score's gradient times the item's vector.
    """
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    part, chunk = tl.program_id(1), tl.program_id(2)
    start = part * per_range
    stop = tl.minimum(start + per_range, N)
    u, tu = load_rows(users, rows, B, 0, D, BD), load_rows(t_users, rows, B, 0, E, BE)
    top_s, top_t = tl.full((BM,), float("-inf"), kind), tl.full((BM,), float("-inf"), kind)
    mass_s, mass_t = tl.zeros((BM,), kind), tl.zeros((BM,), kind)
    mixed, apart = tl.zeros((BM,), kind), tl.zeros((BM,), tl.float64)
    known_s, known_ms, known_t, known_mt, centre = mass_s, mass_s, mass_s, mass_s, apart
    weight = mass_s
    mean = tl.zeros((BM, BD), kind)
    if stats is not None:
        known_s = tl.load(stats + rows, mask=rows < B, other=0.0)
        known_ms = tl.load(stats + B + rows, mask=rows < B, other=0.0)
        known_t = tl.load(stats + 2 * B + rows, mask=rows < B, other=0.0)
        known_mt = tl.load(stats + 3 * B + rows, mask=rows < B, other=0.0)
        centre = tl.load(stats + 4 * B + rows, mask=rows < B, other=0.0).to(tl.float64)
        centre += tl.load(stats + 5 * B + rows, mask=rows < B, other=0.0).to(tl.float64)
    if means is not None:
        weight = tl.load(upstream + rows, mask=rows < B, other=0.0)
    at, end = rows, rows
    if bounds is not None:
        at, end = first_excluded(bounds, indices, rows, B, start, steps)
    for first in range(start, stop, BN):
        columns = first + tl.arange(0, BN)
        v, tv = load_rows(items, columns, N, chunk * BD, D, BD), load_rows(t_items, columns, N, 0, E, BE)
        s, t = _pair(u, users, tu, t_users, rows, B, v, items, tv, t_items, columns, N, D, E, scale, BD, CHUNKS, BE,
                     T_CHUNKS, EXACT, PRECISION)  # fmt: skip
        if bounds is not None:
            s, at = exclude(s, indices, at, end, first, columns, False)
            t = tl.where(s == float("-inf"), float("-inf"), t)
        if means is not None:
            w = _weights(s, t, known_s[:, None], known_ms[:, None], known_t[:, None], known_mt[:, None],
                         centre[:, None], weight[:, None], KIND)  # fmt: skip
            mean += product(w.to(v.dtype), v, EXACT, PRECISION)
        elif stats is not None:
            there = s != float("-inf")
            s, t = tl.where(there, s, known_s[:, None]), tl.where(there, t, known_t[:, None])
            x, y = (s - known_s[:, None]) - known_ms[:, None], (t - known_t[:, None]) - known_mt[:, None]
            mass_s += tl.sum(tl.where(there, tl.exp2(x) * _gap(x, y), 0.0), axis=1)
            mass_t += tl.sum(tl.where(there, tl.exp2(y) * _gap(y, x), 0.0), axis=1)
        else:
            top_s, top_t, mass_s, mass_t, mixed, apart = _absorb_pair(
                s, t, top_s, top_t, mass_s, mass_t, mixed, apart, KIND
            )
    out = part.to(tl.int64) * B + rows
    plane = tl.cast(ranges, tl.int64) * B
    if means is not None:
        d = chunk * BD + tl.arange(0, BD)
        tl.store(means + out[:, None] * D + d[None, :], mean, mask=(rows < B)[:, None] & (d < D)[None, :])
    elif stats is not None:
        tl.store(sums + out, mass_s, mask=rows < B)
        tl.store(sums + plane + out, mass_t, mask=rows < B)
    else:
        tl.store(sums + out, top_s, mask=rows < B)
        tl.store(sums + plane + out, mass_s, mask=rows < B)
        tl.store(sums + 2 * plane + out, top_t, mask=rows < B)
        tl.store(sums + 3 * plane + out, mass_t, mask=rows < B)
        tl.store(sums + 4 * plane + out, mixed, mask=rows < B)
        rounded = apart.to(kind)
        tl.store(sums + 5 * plane + out, rounded, mask=rows < B)
        tl.store(sums + 6 * plane + out, (apart - rounded.to(tl.float64)).to(kind), mask=rows < B)


@triton.jit
def _absorb_pair(s, t, top_s, top_t, mass_s, mass_t, mixed, apart, KIND: tl.constexpr):
    """Add a tile to sums kept relative to the largest scores so far."""
    best_s, best_t = tl.maximum(top_s, tl.max(s, axis=1)), tl.maximum(top_t, tl.max(t, axis=1))
    safe_s, safe_t = tl.where(best_s == float("-inf"), 0.0, best_s), tl.where(best_t == float("-inf"), 0.0, best_t)
    down_s, down_t = tl.exp2(top_s - safe_s), tl.exp2(top_t - safe_t)
    there = s != float("-inf")
    x, y = s - safe_s[:, None], t - safe_t[:, None]
    p, q = tl.exp2(x), tl.exp2(y)
    # What follows sees finite numbers only: an excluded item adds 0, and before the first there is nothing to shift.
    x, y = tl.where(there, x, 0.0), tl.where(there, y, 0.0)
    shift = safe_s - tl.where(mass_t == 0, safe_s, top_s)
    shift_t = safe_t - tl.where(mass_t == 0, safe_t, top_t)
    if KIND == REVERSE_KL:
        # In float64: where one item has all the mass, the gradient is a difference of two equal numbers.
        difference = tl.where(there, s, 0.0).to(tl.float64) - tl.where(there, t, 0.0).to(tl.float64)
        apart = apart * down_s.to(tl.float64) + tl.sum(p.to(tl.float64) * difference, axis=1)
        mixed = (mixed + (shift_t - shift) * mass_s) * down_s
        each = p * (x - y)
    else:
        each = -x
        if KIND != CROSS_ENTROPY:
            shift -= shift_t
            each = y - x
        mixed = (mixed + shift * mass_t) * down_t
        each = q * each
    mixed += tl.sum(each, axis=1)
    mass_s = mass_s * down_s + tl.sum(p, axis=1)
    mass_t = mass_t * down_t + tl.sum(q, axis=1)
    return best_s, best_t, mass_s, mass_t, mixed, apart


@triton.jit
def pair_items(
    users, items, t_users, t_items, bounds, indices, stats, upstream, out, B, N, D, E, scale, steps,
    KIND: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, CHUNKS: tl.constexpr,
    BE: tl.constexpr, T_CHUNKS: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Let a program own BN items, pass over all users and write their rows of the gradient."""
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    mine = tl.program_id(0) * BN
    rows = mine + tl.arange(0, BN)
    chunk = tl.program_id(1)
    v, tv = load_rows(items, rows, N, 0, D, BD), load_rows(t_items, rows, N, 0, E, BE)
    total = tl.zeros((BN, BD), kind)
    for first in range(0, B, BM):
        columns = first + tl.arange(0, BM)
        u, tu = load_rows(users, columns, B, chunk * BD, D, BD), load_rows(t_users, columns, B, 0, E, BE)
        s, t = _pair(v, items, tv, t_items, rows, N, u, users, tu, t_users, columns, B, D, E, scale, BD, CHUNKS, BE,
                     T_CHUNKS, EXACT, PRECISION)  # fmt: skip
        if bounds is not None:
            at, end = first_excluded(bounds, indices, columns, B, mine, steps)
            s, at = exclude(s, indices, at, end, mine, rows, True)
            t = tl.where(s == float("-inf"), float("-inf"), t)
        known = columns < B
        top_s = tl.load(stats + columns, mask=known, other=0.0)
        mass_s = tl.load(stats + B + columns, mask=known, other=0.0)
        top_t = tl.load(stats + 2 * B + columns, mask=known, other=0.0)
        mass_t = tl.load(stats + 3 * B + columns, mask=known, other=0.0)
        centre = tl.load(stats + 4 * B + columns, mask=known, other=0.0).to(tl.float64)
        centre += tl.load(stats + 5 * B + columns, mask=known, other=0.0).to(tl.float64)
        weight = tl.load(upstream + columns, mask=known, other=0.0)
        w = _weights(s, t, top_s[None, :], mass_s[None, :], top_t[None, :], mass_t[None, :], centre[None, :],
                     weight[None, :], KIND)  # fmt: skip
        total += product(w.to(u.dtype), u, EXACT, PRECISION)
    d = chunk * BD + tl.arange(0, BD)
    place = out + rows[:, None].to(tl.int64) * D + d[None, :]
    tl.store(place, total, mask=(rows < N)[:, None] & (d < D)[None, :])
