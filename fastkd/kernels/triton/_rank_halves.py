"""Tables as pairs of half-precision numbers for the tensor cores, and how far scores made of them can stray.

A table times one power of two is ``high + low + rest``, both float16. The rests are measured, not assumed: with
|u|, |v| the norms and r_1, r_2 the norms of what high, and high + low, leave over,

    | u.v - high_u.high_v |                                       <= r_1u |v| + (|u| + r_1u) r_1v
    | u.v - high_u.high_v - high_u.low_v - low_u.high_v |         <= the same with r_2, + |low_u| |low_v|

plus what sums of D products in float32 lose, D 2^-23 |u| |v| even where the tensor core truncates.

Shapes: R rows in a block, D dimensions, W = D padded with zeros to what a dot takes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new

_CHUNK = 256
"""Widest dot taken in one piece; wider tables are padded to a multiple of half of it."""

_ENTRIES = 1024
"""Numbers of a table that a program prepares at once; rows wider than that go one by one."""

_TOP = 10
"""Scaled tables lie below 2^10: their products fit, and a low half is normal down to 2^-24 of the largest value."""


class Halves(NamedTuple):
    """``high``, ``low`` Float16[rows, W]; ``norm``, ``rest1``, ``rest2`` Float32[rows] of the scaled table, rounded up.

    ``scale`` Float32[]: the power of two. ``odd`` Bool[rows]: a row that is not finite, 0 in the halves.
    """

    high: Tensor
    low: Tensor
    norm: Tensor
    rest1: Tensor
    rest2: Tensor
    scale: Tensor
    odd: Tensor


def padded_width(dim: int) -> int:
    """Return W."""
    if dim <= _CHUNK:
        return max(16, int(triton.next_power_of_2(dim)))
    return -(-dim // (_CHUNK // 2)) * (_CHUNK // 2)


def halves(table: Tensor) -> Halves:
    """Return a contiguous Float[rows, D] table in halves; nothing waits for the device."""
    count, dim = table.shape
    width, device = padded_width(dim), table.device
    block_d = triton.next_power_of_2(max(dim, 1))
    block_r = max(1, _ENTRIES // block_d)
    grid = (max(1, triton.cdiv(count, block_r)),)
    tops, odd = new((count,), torch.float32, device), new((count,), torch.int8, device)
    _row_tops[grid](table, tops, odd, count, dim, block_r, block_d)
    exponent = torch.frexp(tops.amax() if count else tops.new_zeros(())).exponent
    scale = torch.exp2((_TOP - exponent).clamp(-60, 60).float())
    high, low = (new((count, width), torch.float16, device) for _ in range(2))
    facts = new((3, count), torch.float32, device)
    block_w = triton.next_power_of_2(width)
    block_r = max(1, _ENTRIES // block_w)
    grid = (max(1, triton.cdiv(count, block_r)),)
    _split[grid](table, odd, scale, high, low, facts, count, dim, width, block_r, block_w)
    return Halves(high, low, facts[0], facts[1], facts[2], scale, odd.bool())


@triton.jit
def _row_tops(table, tops, odd, count, dim, R: tl.constexpr, D: tl.constexpr):
    """Write each row's largest size, and whether it holds something that is not finite."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    columns = tl.arange(0, D)
    mask = (rows < count)[:, None] & (columns < dim)[None, :]
    size = tl.abs(tl.load(table + rows[:, None] * dim + columns[None, :], mask=mask, other=0.0).to(tl.float64))
    bad = tl.max(tl.where(size < 1e30, 0, 1), axis=1)
    top = tl.max(tl.where(size < 1e30, size, 0.0), axis=1)
    tl.store(tops + rows, tl.where(bad > 0, 0.0, top).to(tl.float32), mask=rows < count)
    tl.store(odd + rows, bad.to(tl.int8), mask=rows < count)


@triton.jit
def _split(table, odd, scale, high, low, facts, count, dim, width, R: tl.constexpr, W: tl.constexpr):
    """Write both halves and, rounded up, the norms of the row and of what each half leaves over."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    columns = tl.arange(0, W)
    inside = rows < count
    good = inside & (tl.load(odd + rows, mask=inside, other=1) == 0)
    mask = good[:, None] & (columns < dim)[None, :]
    x = tl.load(table + rows[:, None] * dim + columns[None, :], mask=mask, other=0.0).to(tl.float64)
    x = x * tl.load(scale).to(tl.float64)
    first = x.to(tl.float32).to(tl.float16)
    rest1 = x - first.to(tl.float64)
    second = rest1.to(tl.float32).to(tl.float16)
    rest2 = rest1 - second.to(tl.float64)
    kept = inside[:, None] & (columns < width)[None, :]
    at = rows[:, None] * width + columns[None, :]
    tl.store(high + at, first, mask=kept)
    tl.store(low + at, second, mask=kept)
    up = 1.00001
    tl.store(facts + rows, (tl.sqrt(tl.sum(x * x, axis=1)) * up).to(tl.float32), mask=inside)
    tl.store(facts + count + rows, (tl.sqrt(tl.sum(rest1 * rest1, axis=1)) * up).to(tl.float32), mask=inside)
    tl.store(facts + 2 * count + rows, (tl.sqrt(tl.sum(rest2 * rest2, axis=1)) * up).to(tl.float32), mask=inside)


def margins(users: Halves, items: Halves, largest_bias: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return how far a (scaled) score of the high halves, and of both, can lie from the canonical one, Float32[B].

    ``largest_bias``: bound on the scaled biases that take part. inf for a user whose vector is not finite.
    """
    top, top1, top2 = (t.amax() if len(t) else t.new_zeros(()) for t in (items.norm, items.rest1, items.rest2))
    bound = users.norm * top
    lost = 1.05 * (1.25 * dim + 16) * 2.0**-23 * bound + 2.0**-20 * (bound + largest_bias) + 2.0**-60
    first = users.rest1 * top + (users.norm + users.rest1) * top1
    second = users.rest2 * top + (users.norm + users.rest2) * top2
    second = second + (users.rest1 + users.rest2) * (top1 + top2)
    return tuple((1.0001 * m + lost).masked_fill(users.odd, torch.inf) for m in (first, second))  # type: ignore[return-value]
