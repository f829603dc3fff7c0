"""Rank-discrepancy draws of users whose proposals did not suffice, from the ranks of all items; one program a user.

The stream is that of ``fastkd/kernels/reference/sample_rank_discrepancy.py``: accepted proposals while there are any,
then inversion. With replacement, running sums of a user's weights are made once and searched; without, they change with
every draw and are made anew, so a slot drawn by inversion then costs three passes over the user's N gaps.

Shapes: R users of a chunk, N items, W proposals or items of a block.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels._discrepancy import HEAD, SLOPE, Rule
from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._random import lower_bound
from fastkd.kernels.triton.philox import below, key_tensor, key_words, philox4x32, user_words

NEVER = -(1 << 31)
_NEVER, _HEAD, _SLOPE = tl.constexpr(NEVER), tl.constexpr(HEAD), tl.constexpr(SLOPE)
_W = 1024


@triton.jit
def _weights(gaps, table, item, N, least, flat, RELATIVE: tl.constexpr):
    """Return the weights Int64[W] of items, 1 each where ``flat``; 0 for those that must not be drawn."""
    gap = tl.load(gaps + item, mask=item < N, other=_NEVER).to(tl.int64)
    free = gap != _NEVER
    cell = gap - least if RELATIVE else tl.maximum(gap, 0)
    weight = tl.load(table + cell, mask=free, other=0)
    return tl.where(flat, free.to(tl.int64), weight)


@triton.jit
def _target(slot, low, high, k0, k1, total):
    """Return ``(w0, w1) total div 2**64`` for a slot's words."""
    at = slot.to(tl.uint32)
    w0, w1, _, _ = philox4x32(at, low, high, at * 0 + 1, k0, k1)
    w0, w1 = w0.to(tl.uint64), w1.to(tl.uint64)
    small, large = (total & 0xFFFFFFFF).to(tl.uint64), (total >> 32).to(tl.uint64)
    first, second = w1 * large, w0 * small
    carry = (((w1 * small) >> 32) + (first & 0xFFFFFFFF) + (second & 0xFFFFFFFF)) >> 32
    return (w0 * large + (first >> 32) + (second >> 32) + carry).to(tl.int64)


@triton.jit
def _invert(gaps, table, slot, low, high, k0, k1, N, RELATIVE: tl.constexpr, W: tl.constexpr):
    """Return the item of a slot from the weights as they are now, -1 where no item is left."""
    lane = tl.arange(0, W).to(tl.int64)
    least = tl.zeros((), dtype=tl.int64)
    if RELATIVE:
        least += 1 << 40
        for start in range(0, N, W):
            gap = tl.load(gaps + start + lane, mask=start + lane < N, other=_NEVER).to(tl.int64)
            least = tl.minimum(least, tl.min(tl.where(gap != _NEVER, gap, 1 << 40), axis=0))
    total = tl.zeros((), dtype=tl.int64)
    count = tl.zeros((), dtype=tl.int64)
    for start in range(0, N, W):
        total += tl.sum(_weights(gaps, table, start + lane, N, least, False, RELATIVE), axis=0)
        count += tl.sum(_weights(gaps, table, start + lane, N, least, True, RELATIVE), axis=0)
    flat = total == 0
    total = tl.where(flat, count, total)
    target = _target(slot, low, high, k0, k1, total)
    item = tl.full((), -1, tl.int64)
    before = tl.zeros((), dtype=tl.int64)
    start = tl.zeros((), dtype=tl.int64)
    while (item < 0) & (start < N):
        weight = _weights(gaps, table, start + lane, N, least, flat, RELATIVE)
        running = before + tl.cumsum(weight, axis=0)
        first = tl.min(tl.where(running > target, lane, W), axis=0)
        item = tl.where(first < W, start + first, item)
        before += tl.sum(weight, axis=0)
        start += W
    return item


@triton.jit
def finish_kernel(
    users, key, gaps, sums, table, offsets, rows, samples, N, bits,
    RELATIVE: tl.constexpr, REPLACEMENT: tl.constexpr, REJECTS: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """Write all slots of a user. Without replacement, ``gaps`` of drawn items become the one that is never drawn."""
    r = tl.program_id(0).to(tl.int64)
    b = tl.load(rows + r)
    begin = tl.load(offsets + b)
    n = tl.load(offsets + b + 1) - begin
    gaps += r * N
    items = tl.zeros((), dtype=tl.int64) + N
    k0, k1 = key_words(key)
    low, high = user_words(tl.load(users + b))
    lane = tl.arange(0, W).to(tl.int64)
    t = tl.zeros((), dtype=tl.int64)
    for at in range(0, n):
        slot = tl.zeros((), dtype=tl.int64) + at
        item = tl.full((), -1, tl.int64)
        if REJECTS:
            end = (slot + _HEAD) * _SLOPE
            while (item < 0) & (t < end):
                w = (t + lane).to(tl.uint32)
                w0, _, w2, w3 = philox4x32(w, low + w * 0, high + w * 0, w * 0, k0, k1)
                wanted, fair = below(w0, items)
                height = (w2.to(tl.int64) << (bits - 32)) | (w3.to(tl.int64) >> (64 - bits))
                gap = tl.load(gaps + wanted, mask=fair, other=_NEVER).to(tl.int64)
                free = (gap != _NEVER) & (t + lane < end)
                cell = gap + (N - 1) if RELATIVE else tl.maximum(gap, 0)
                accepted = free & (height < tl.load(table + cell, mask=free, other=0))
                first = tl.min(tl.where(accepted, lane, W), axis=0)
                item = tl.max(tl.where(lane == first, wanted, -1), axis=0)
                t = tl.where(first < W, t + first + 1, tl.minimum(t + W, end))
        if item < 0:
            if REPLACEMENT:
                total = tl.load(sums + r * N + items - 1)
                target = _target(slot, low, high, k0, k1, total)
                found = lower_bound(sums + r * N, items * 0, items, target + 1)
                item = tl.where(found < items, found, -1)
            else:
                item = _invert(gaps, table, slot, low, high, k0, k1, items, RELATIVE, W)
        tl.store(samples + begin + slot, item)
        if not REPLACEMENT:
            tl.debug_barrier()
            tl.store(gaps + item, _NEVER, mask=item >= 0)
            tl.debug_barrier()


def finish(samples: Tensor, gaps: Tensor, ids: Tensor, offsets: Tensor, rows: Tensor, how: Rule) -> None:
    """Write the samples of the users ``rows`` Int64[R] from their ``gaps`` Int64[R, N], hugely negative where seen.

    Memory: 12 (with replacement about 30) bytes for each gap; the caller cuts ``rows`` into chunks.
    """
    gaps = gaps.clamp(min=NEVER).to(torch.int32)
    sums = _running_sums(gaps, how) if how.replacement else how.table
    finish_kernel[(len(rows),)](
        ids, key_tensor(how.key, ids.device), gaps, sums, how.table, offsets, rows, samples, gaps.shape[1], how.bits,
        RELATIVE=how.relative, REPLACEMENT=how.replacement, REJECTS=how.rejects, W=_W,
    )  # fmt: skip


def _running_sums(gaps: Tensor, how: Rule) -> Tensor:
    """Return the running sums Int64[R, N] of weights; of ones where all of a user's are 0."""
    free = gaps != NEVER
    least = gaps.where(free, 2**31 - 1).amin(1, keepdim=True)
    cells = gaps - least if how.relative else gaps.clamp(min=0)
    weights = how.table[cells.masked_fill(~free, 0).long()].masked_fill(~free, 0)
    empty = ~weights.any(1, keepdim=True)
    return weights.where(~empty, free.long()).cumsum(1)


FINISH_CONFIGURATIONS = tuple(
    Configuration(
        name=f"finish{'-relative' if relative else ''}{'' if replacement else '-distinct'}",
        kernel=finish_kernel,
        signature=dict.fromkeys(("users", "key", "sums", "table", "offsets", "rows", "samples"), "*i64")
        | {"gaps": "*i32", "N": "i32", "bits": "i32"},
        constants={"RELATIVE": relative, "REPLACEMENT": replacement, "REJECTS": True, "W": _W},
        unaligned=("N", "bits"),
    )
    for relative, replacement in ((False, True), (True, False))
)
