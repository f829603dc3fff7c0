"""Where the items of one list stand in another, on the GPU: a binary search in sorted rows.

Each row of the second list is sorted as int64 pairs ``item << 20 | place``, so equal items stay in order of place and
the first one answers. Shapes: B rows, M and L entries of the two lists, W entries a program looks up.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new

_BITS = 20
_W = 128


def ranks_within(lists_a: Tensor, lists_b: Tensor) -> Tensor:
    """Return Int64[B, M]; see :func:`fastkd.ops.ranks_within`. Memory beyond the arguments: O(B L)."""
    (rows, width), length = lists_a.shape, lists_b.shape[1]
    if length >= 1 << _BITS:
        raise ValueError(f"backend 'triton' takes lists below {1 << _BITS} entries, got {length}; use 'reference'")
    ranks = new((rows, width), torch.int64, lists_a.device)
    if ranks.numel() == 0:
        return ranks
    place = torch.arange(length, device=lists_b.device)
    pairs = ((lists_b.long() << _BITS) | place).sort(dim=1).values
    grid = (rows, triton.cdiv(width, _W))
    _look_up[grid](lists_a.contiguous(), pairs, ranks, width, length, W=_W, BITS=_BITS, STEPS=length.bit_length())
    return ranks


@triton.jit
def _look_up(lists, pairs, ranks, width, length, W: tl.constexpr, BITS: tl.constexpr, STEPS: tl.constexpr):
    """Search W items of one row: the first pair that is not below (item, place 0)."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1).to(tl.int64) * W + tl.arange(0, W)
    inside = column < width
    item = tl.load(lists + row * width + column, mask=inside, other=-1).to(tl.int64)
    wanted = item << BITS
    at = tl.zeros((W,), dtype=tl.int64)
    for step in tl.static_range(STEPS):
        half = 1 << (STEPS - 1 - step)
        probe = at + half - 1
        known = tl.load(pairs + row * length + probe, mask=inside & (probe < length), other=0x7FFFFFFFFFFFFFFF)
        at = tl.where(known < wanted, at + half, at)
    found = tl.load(pairs + row * length + at, mask=inside & (at < length), other=-1)
    rank = tl.where((found >> BITS) == item, 1 + (found & ((1 << BITS) - 1)), length + 1)
    tl.store(ranks + row * width + column, tl.where(item < 0, 0, rank), mask=inside)


CONFIGURATIONS = tuple(
    Configuration(
        name=f"length-{length}",
        kernel=_look_up,
        signature={"lists": "*i64", "pairs": "*i64", "ranks": "*i64", "width": "i32", "length": "i32"},
        constants={"W": _W, "BITS": _BITS, "STEPS": length.bit_length()},
        unaligned=("width", "length"),
    )
    for length in (100, 4096)
)
