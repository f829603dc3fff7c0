"""Sweeps over the catalogue that count what surely beats a target, and flag what they cannot tell.

A program keeps BM users and walks over tiles of BN items. The first sweep multiplies the high halves alone. A user for
whom its margin leaves anything of a tile open gets the tile's flag, and nothing of that pair is counted. The second
visits flagged tiles with both halves and leaves flags only on what is still open, for ``_rank_exact.settle``. Tiles
with odd items are left to it from the start.

A few targets (``few``) are counted one by one. Many are searched in the second sweep, and the first only finds out
where a score reaches a user's lowest target: what lies below counts nowhere.

Shapes: B users, W padded dimensions, T targets of a user sorted best first, BM users and BN items in a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._math import dot


@triton.jit
def _users(table, rows, mask, k, W: tl.constexpr, K: tl.constexpr):
    """Load K dimensions from ``k`` on of the program's users, Float16[BM, K]."""
    return tl.load(table + rows[:, None] * W + (k + tl.arange(0, K))[None, :], mask=mask[:, None], other=0.0)


@triton.jit
def _scores(kept, left, right, rows, items, mask, W: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Return Float32[BM, BN]: products of float16 rows. ``kept``: all of ``left``, where it is one dot wide."""
    column = tl.arange(0, K)
    if kept is not None:
        return dot(kept, tl.load(right + items[None, :] * W + column[:, None]))
    total = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, W, K):
        total += dot(_users(left, rows, mask, k, W, K), tl.load(right + items[None, :] * W + (k + column)[:, None]))
    return total


@triton.jit
def _above(scores, level):
    """Return Int32[BM]: how many scores of a row lie above its level."""
    return tl.sum(tl.where(scores > level[:, None], 1.0, 0.0), axis=1).to(tl.int32)


@triton.jit
def _reaching(scores, level):
    """Return Int32[BM]: how many scores of a row reach its level."""
    return tl.sum(tl.where(scores >= level[:, None], 1.0, 0.0), axis=1).to(tl.int32)


@triton.jit
def _both(
    user_high, user_low, item_high, item_low, bias, rows, items, mask,
    W: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Return Float32[BM, BN]: scores of both halves."""
    column = tl.arange(0, K)
    total = tl.zeros((BM, BN), dtype=tl.float32)
    small = tl.zeros((BM, BN), dtype=tl.float32)
    for k in range(0, W, K):
        high, low = _users(user_high, rows, mask, k, W, K), _users(user_low, rows, mask, k, W, K)
        at = items[None, :] * W + (k + column)[:, None]
        item = tl.load(item_high + at)
        small += dot(low, item)
        small += dot(high, tl.load(item_low + at))
        total += dot(high, item)
    total += small
    if bias is not None:
        total += tl.load(bias + items)[None, :]
    return total


@triton.jit
def screen_few(
    user_high, item_high, scores, wide, bias, odd, counts, flags, rows, first, tiles, per_program,
    T: tl.constexpr, W: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add to ``counts`` Int32[B, T] the items above each target; write ``flags`` Int8[tiles, B] of tiles ``first`` on.

    ``scores`` Float32[B, T]: the targets', scaled; NaN for none. ``wide`` Float32[B]: the margin.
    """
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    inside = row < rows
    margin = tl.load(wide + row, mask=inside, other=0.0)
    kept = _users(user_high, row, inside, 0, W, K) if W == K else None
    start = tl.program_id(1) * per_program
    for tile in range(start, tl.minimum(start + per_program, tiles)):
        item = ((first + tile) * BN + tl.arange(0, BN)).to(tl.int64)
        seen = _scores(kept, user_high, item_high, row, item, inside, W, K, BM, BN)
        if bias is not None:
            seen += tl.load(bias + item)[None, :]
        counted = inside & (tl.load(odd + first + tile) == 0)
        near = tl.zeros((BM,), dtype=tl.int32)
        for t in range(0, T):
            target = tl.load(scores + row * T + t, mask=inside, other=float("nan"))
            sure = _above(seen, target + margin)
            near += _reaching(seen, target - margin) - sure
            tl.atomic_add(counts + row * T + t, sure, mask=counted & (sure > 0), sem="relaxed")
        counted &= near > 0
        if tl.max(near) > 0:
            for t in range(0, T):
                target = tl.load(scores + row * T + t, mask=inside, other=float("nan"))
                sure = _above(seen, target + margin)
                tl.atomic_add(counts + row * T + t, -sure, mask=counted & (sure > 0), sem="relaxed")
        tl.store(flags + tile * rows + row, counted.to(tl.int8), mask=inside)


@triton.jit
def refine_few(
    user_high, user_low, item_high, item_low, scores, narrow, bias, counts, flags, rows, first, tiles, per_program,
    T: tl.constexpr, W: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Count flagged tiles as :func:`screen_few` does, with both halves; leave flags where that is not enough."""
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    inside = row < rows
    margin = tl.load(narrow + row, mask=inside, other=0.0)
    start = tl.program_id(1) * per_program
    for tile in range(start, tl.minimum(start + per_program, tiles)):
        at = flags + tile * rows + row
        waiting = tl.load(at, mask=inside, other=0) != 0
        if tl.max(waiting.to(tl.int32)) > 0:
            item = ((first + tile) * BN + tl.arange(0, BN)).to(tl.int64)
            seen = _both(user_high, user_low, item_high, item_low, bias, row, item, inside, W, K, BM, BN)
            near = tl.zeros((BM,), dtype=tl.int32)
            for t in range(0, T):
                target = tl.load(scores + row * T + t, mask=inside, other=float("nan"))
                near += _reaching(seen, target - margin) - _above(seen, target + margin)
            for t in range(0, T):
                target = tl.load(scores + row * T + t, mask=inside, other=float("nan"))
                sure = _above(seen, target + margin)
                decided = waiting & (near == 0) & (sure > 0)
                tl.atomic_add(counts + row * T + t, sure, mask=decided, sem="relaxed")
            tl.debug_barrier()  # every thread that keeps a copy of a flag has read it before one of them writes
            tl.store(at, (near > 0).to(tl.int8), mask=waiting)


@triton.jit
def screen_many(
    user_high, item_high, lowest, wide, bias, odd, flags, rows, first, tiles, per_program,
    W: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Flag the tiles in which a score comes near a user's lowest target, ``lowest`` Float32[B], or beats it."""
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    inside = row < rows
    level = tl.load(lowest + row, mask=inside, other=float("inf")) - tl.load(wide + row, mask=inside, other=0.0)
    kept = _users(user_high, row, inside, 0, W, K) if W == K else None
    start = tl.program_id(1) * per_program
    for tile in range(start, tl.minimum(start + per_program, tiles)):
        item = ((first + tile) * BN + tl.arange(0, BN)).to(tl.int64)
        seen = _scores(kept, user_high, item_high, row, item, inside, W, K, BM, BN)
        if bias is not None:
            seen += tl.load(bias + item)[None, :]
        passing = (tl.max(seen, axis=1) >= level) & (tl.load(odd + first + tile) == 0)
        tl.store(flags + tile * rows + row, passing.to(tl.int8), mask=inside)


@triton.jit
def refine_many(
    user_high, user_low, item_high, item_low, scores, narrow, bias, places, flags,
    rows, targets, first, tiles, per_program,
    STEPS: tl.constexpr, W: tl.constexpr, K: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add to ``places`` Int32[B, C + 1] the items of flagged tiles whose first beaten target is t; leave flags."""
    row = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    inside = row < rows
    margin = tl.load(narrow + row, mask=inside, other=0.0)
    start = tl.program_id(1) * per_program
    for tile in range(start, tl.minimum(start + per_program, tiles)):
        at = flags + tile * rows + row
        waiting = tl.load(at, mask=inside, other=0) != 0
        if tl.max(waiting.to(tl.int32)) > 0:
            item = ((first + tile) * BN + tl.arange(0, BN)).to(tl.int64)
            seen = _both(user_high, user_low, item_high, item_low, bias, row, item, inside, W, K, BM, BN)
            place = tl.zeros((BM, BN), dtype=tl.int32)
            base = (scores + row * targets)[:, None]
            for step in tl.static_range(STEPS):
                probe = place + ((1 << (STEPS - 1 - step)) - 1)
                known = tl.load(base + probe, mask=waiting[:, None] & (probe < targets), other=float("nan"))
                place = tl.where(seen < known - margin[:, None], probe + 1, place)
            real = waiting[:, None] & (place < targets)
            known = tl.load(base + place, mask=real, other=float("nan"))
            near = tl.max(tl.where(real & (seen <= known + margin[:, None]), 1, 0), axis=1)
            one = tl.full((BM, BN), 1, tl.int32)
            spot = (places + row * (targets + 1))[:, None] + place
            tl.atomic_add(spot, one, mask=real & (near == 0)[:, None], sem="relaxed")
            tl.debug_barrier()  # every thread that keeps a copy of a flag has read it before one of them writes
            tl.store(at, near.to(tl.int8), mask=waiting)
