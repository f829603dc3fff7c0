"""The canonical order in kernels: keys of (user, item) pairs, and the place of an item among a user's sorted targets.

A key is one int64, smaller for the better rank: the score's bits turned so that higher scores give smaller integers
(-0.0 like 0.0, NaN last) over the item's id. All keys differ, so places need no rule for ties.
An item's *place* is the first target it ranks before, T if none.

Shapes: B users, N items, D dimensions, T targets of a user (sorted), W pairs in a block, BN items in a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pair_keys(users, items, bias, rows, ids, mask, dim):
    """Return Int64[W]: float64 sums in order of d, rounded to float32, plus bias."""
    total = tl.zeros(ids.shape, dtype=tl.float64)
    for d in tl.range(0, dim, loop_unroll_factor=8):  # so that several loads are under way at once
        u = tl.load(users + rows * dim + d, mask=mask, other=0.0).to(tl.float64)
        v = tl.load(items + ids * dim + d, mask=mask, other=0.0).to(tl.float64)
        total += u * v
    score = total.to(tl.float32)
    if bias is not None:
        score += tl.load(bias + ids, mask=mask, other=0.0).to(tl.float32)
    bits = tl.where(score == 0.0, 0.0, score).to(tl.int32, bitcast=True)
    order = tl.where(bits >= 0, ~bits, bits & 0x7FFFFFFF)
    order = tl.where(score == score, order, 0x7FFFFFFF)
    return (order.to(tl.int64) << 32) | ids


@triton.jit
def places_of(keys, wanted, mask, targets, STEPS: tl.constexpr):
    """Return Int64[W]: for each key ``wanted`` the number of sorted ``keys`` up to and with it; T < 2^STEPS."""
    place = tl.zeros(wanted.shape, dtype=tl.int64)
    for step in tl.static_range(STEPS):
        half = 1 << (STEPS - 1 - step)
        probe = place + half - 1
        known = tl.load(keys + probe, mask=mask & (probe < targets), other=0x7FFFFFFFFFFFFFFF)
        place = tl.where(known <= wanted, place + half, place)
    return tl.minimum(place, targets)


@triton.jit
def target_keys(users, items, bias, ids, keys, size, columns, count, dim, W: tl.constexpr):
    """Write the keys Int64[B, C] of given items, ``size`` = B C of them; the largest integer for ids that are none."""
    at = tl.program_id(0).to(tl.int64) * W + tl.arange(0, W)
    inside = at < size
    item = tl.load(ids + at, mask=inside, other=-1).to(tl.int64)
    good = inside & (item >= 0) & (item < count)
    item = tl.where(good, item, 0)
    key = pair_keys(users, items, bias, at // columns, item, good, dim)
    tl.store(keys + at, tl.where(good, key, 0x7FFFFFFFFFFFFFFF), mask=inside)


@triton.jit
def settle(
    users, items, bias, keys, flags, odd, places, rows, count, dim, targets, first, tiles, full, blocks,
    UB: tl.constexpr, BN: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Count by canonical keys what a sweep left open: tiles flagged for a user, odd tiles and the last, partial one.

    ``flags`` Int8[tiles, B] are those of tiles ``first`` on. Places Int32[B, T + 1]. Program: a tile, then one of
    ``blocks`` blocks of users.
    """
    tile = (tl.program_id(0) // blocks).to(tl.int64)
    first_user = (tl.program_id(0) % blocks).to(tl.int64) * UB
    user = first_user + tl.arange(0, UB)
    whole = first + tile
    inside = (user < rows) & (whole * BN < count)
    open_ = inside
    if whole < full:
        flagged = tl.load(flags + tile * rows + user, mask=inside, other=0) != 0
        everyone = tl.load(odd + whole) != 0
        open_ = inside & (flagged | everyone)
    waiting = tl.where(open_, tl.arange(0, UB), UB)
    item = whole * BN + tl.arange(0, BN)
    real = item < count
    item = tl.where(real, item, 0)
    for _ in range(0, tl.sum(open_.to(tl.int32))):
        lane = tl.min(waiting)
        waiting = tl.where(waiting == lane, UB, waiting)
        row = first_user + lane
        key = pair_keys(users, items, bias, row + tl.zeros_like(item), item, real, dim)
        place = places_of(keys + row * targets, key, real, targets, STEPS)
        tl.atomic_add(places + row * (targets + 1) + place, tl.full(item.shape, 1, tl.int32), mask=real)


@triton.jit
def take_back(
    users, items, bias, keys, indptr, indices, places, dim, targets, W: tl.constexpr, STEPS: tl.constexpr
):  # fmt: skip
    """Take the items that a user leaves out from the count again; program (b, c) has every C-th block of row b."""
    row = tl.program_id(0).to(tl.int64)
    start, stop = tl.load(indptr + row), tl.load(indptr + row + 1)
    for at in range(start + tl.program_id(1) * W, stop, tl.num_programs(1) * W):
        entry = at + tl.arange(0, W)
        real = entry < stop
        item = tl.load(indices + entry, mask=real, other=0).to(tl.int64)
        key = pair_keys(users, items, bias, row + tl.zeros_like(item), item, real, dim)
        place = places_of(keys + row * targets, key, real, targets, STEPS)
        tl.atomic_add(places + row * (targets + 1) + place, tl.full(item.shape, -1, tl.int32), mask=real)
