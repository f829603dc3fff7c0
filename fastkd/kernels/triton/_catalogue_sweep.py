"""Kernels of the softmax over a whole catalogue.

    B users, N items, D dimensions, S ranges of items, BM x BN a tile, BD a block of dimensions

``sweep_users``: a program owns BM users and a range of items: attention with the items as keys and values.
``sweep_items``: a program owns BN items and passes over all users. Scores are in units of log 2, so that an exponential
is one instruction; the softmax is ``exp2(z - top) share``, top and share apart, exact at any score.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._catalogue_tile import (
    exclude,
    first_excluded,
    load_rows,
    log2_scores,
    product,
    tile_scores,
)


@triton.jit
def sweep_users(
    users, items, bias, bounds, indices, tops, masses, means, B, N, D, per_range, scale, steps,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, CHUNKS: tl.constexpr,
    EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the largest score, the mass and (unless ``means`` is None) the sum of p v of each user and range."""
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    part, chunk = tl.program_id(1), tl.program_id(2)
    start = part * per_range
    stop = tl.minimum(start + per_range, N)
    u = load_rows(users, rows, B, 0, D, BD)
    top = tl.full((BM,), float("-inf"), kind)
    mass = tl.zeros((BM,), kind)
    mean = tl.zeros((BM, BD), kind)
    at, end = rows, rows
    if bounds is not None:
        at, end = first_excluded(bounds, indices, rows, B, start, steps)
    full = start + (tl.maximum(stop - start, 0) // BN) * BN
    for first in range(start, full, BN):
        top, mass, mean, at = _absorb(
            users, items, bias, indices, u, rows, at, end, top, mass, mean, first, stop, B, N, D, scale, chunk,
            bounds is not None, means is not None, False, BN, BD, CHUNKS, EXACT, PRECISION,
        )  # fmt: skip
    if full < stop:
        top, mass, mean, at = _absorb(
            users, items, bias, indices, u, rows, at, end, top, mass, mean, full, stop, B, N, D, scale, chunk,
            bounds is not None, means is not None, True, BN, BD, CHUNKS, EXACT, PRECISION,
        )  # fmt: skip
    out = part.to(tl.int64) * B + rows
    if chunk == 0:
        tl.store(tops + out, top, mask=rows < B)
        tl.store(masses + out, mass, mask=rows < B)
    if means is not None:
        d = chunk * BD + tl.arange(0, BD)
        tl.store(means + out[:, None] * D + d[None, :], mean, mask=(rows < B)[:, None] & (d < D)[None, :])


@triton.jit
def _absorb(
    users, items, bias, indices, u, rows, at, end, top, mass, mean, first, stop, B, N, D, scale, chunk,
    EXCLUDE: tl.constexpr, MEAN: tl.constexpr, LAST: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    CHUNKS: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add a tile of items to the sums of a block of users."""
    columns = first + tl.arange(0, BN)
    v = load_rows(items, columns, N, chunk * BD, D, BD)
    scores = tile_scores(u, users, rows, B, v, items, columns, N, D, BD, CHUNKS, EXACT, PRECISION)
    b = None
    if bias is not None:
        b = tl.load(bias + columns, mask=columns < N, other=0.0)
    scores = log2_scores(scores, scale, b, EXACT, False)
    if LAST:
        scores = tl.where((columns < stop)[None, :], scores, float("-inf"))
    if EXCLUDE:
        scores, at = exclude(scores, indices, at, end, first, columns, False)
    best = tl.maximum(top, tl.max(scores, axis=1))
    safe = tl.where(best == float("-inf"), 0.0, best)
    shrink = tl.exp2(top - safe)
    p = tl.exp2(scores - safe[:, None])
    mass = mass * shrink + tl.sum(p, axis=1)
    if MEAN:
        mean = mean * shrink[:, None] + product(p.to(v.dtype), v, EXACT, PRECISION)
    return best, mass, mean, at


@triton.jit
def sweep_items(
    users, items, bias, bounds, indices, tops, weights, base, out, B, N, D, scale, steps,
    BM: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, CHUNKS: tl.constexpr,
    EXACT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write ``base + sum_u weight_u exp2(z_ui - top_u) users_u`` to each row of ``out``; base Float[D] or None."""
    kind: tl.constexpr = tl.float64 if EXACT else tl.float32
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    chunk = tl.program_id(1)
    d = chunk * BD + tl.arange(0, BD)
    v = load_rows(items, rows, N, 0, D, BD)
    total = tl.zeros((BN, BD), kind)
    if base is not None:
        total += tl.load(base + d, mask=d < D, other=0.0)[None, :]
    b = None
    if bias is not None:
        b = tl.load(bias + rows, mask=rows < N, other=0.0)
    for first in range(0, B, BM):
        columns = first + tl.arange(0, BM)
        u = load_rows(users, columns, B, chunk * BD, D, BD)
        scores = tile_scores(v, items, rows, N, u, users, columns, B, D, BD, CHUNKS, EXACT, PRECISION)
        scores = log2_scores(scores, scale, b, EXACT, True)
        if bounds is not None:
            at, end = first_excluded(bounds, indices, columns, B, tl.program_id(0) * BN, steps)
            scores, at = exclude(scores, indices, at, end, tl.program_id(0) * BN, rows, True)
        # A lane past the end gets exp2(-inf), whatever the bias.
        top = tl.load(tops + columns, mask=columns < B, other=float("inf"))
        weight = tl.load(weights + columns, mask=columns < B, other=0.0)
        p = tl.exp2(scores - top[None, :]) * weight[None, :]
        total += product(p.to(u.dtype), u, EXACT, PRECISION)
    place = out + rows[:, None].to(tl.int64) * D + d[None, :]
    tl.store(place, total, mask=(rows < N)[:, None] & (d < D)[None, :])
