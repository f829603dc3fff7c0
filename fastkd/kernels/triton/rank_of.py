"""Exact ranks of given items on the GPU: tensor-core scores are counted, close calls settled exactly.

1. Keys of the given items (``_rank_exact.target_keys``), sorted by row: T = C targets, best first.
2. A sweep over float16 halves of the tables counts what surely beats a target (``_rank_sweep``), a segment of the
   catalogue at a time. Where margins leave a (user, tile) open, it sets that pair's flag and counts nothing of it.
3. ``settle`` counts flagged pairs by canonical keys, ``take_back`` subtracts what a user leaves out.

A flag has its own place in memory, so nothing can overflow, whatever ties: the worst data are counted exactly and
slowly. Counts are integers, so the order of atomic additions leaves no trace.

Shapes: B users, N items, D dimensions, C given items.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import SECOND_AXIS, new
from fastkd.kernels.triton._rank_exact import settle, take_back, target_keys
from fastkd.kernels.triton._rank_halves import Halves, _row_tops, _split, halves, margins
from fastkd.kernels.triton._rank_sweep import refine_few, refine_many, screen_few, screen_many

_FEW = 8
"""Up to so many targets are compared one by one; more are searched."""

_FLAG_BYTES = 1 << 24
_PER_PROGRAM = 32
_BN = 128
_SETTLED = 32
_PAD = 2**63 - 1


class _Shape(NamedTuple):
    """How a sweep is cut: BM users, K dimensions of a dot, warps and stages; the items of a tile are always _BN."""

    users: int
    chunk: int
    warps: int
    stages: int

    def constants(self, width: int) -> dict[str, int]:
        """Return the constants of the sweeps' kernels."""
        return {"W": width, "K": self.chunk, "BM": self.users, "BN": _BN}

    def options(self) -> dict[str, int]:
        """Return what a launch takes beside arguments."""
        return {"num_warps": self.warps, "num_stages": self.stages}


def shape_of(kernel: Any, width: int) -> _Shape:
    """Return the tiles of a sweep for tables of padded ``width``."""
    if kernel in (screen_few, screen_many):
        return _Shape(128, width, 8, 3) if width <= 128 else _Shape(128, 64, 8, 3)
    return _Shape(64, min(width, 64), 8, 2) if kernel is refine_few else _Shape(16, min(width, 64), 4, 2)


def rank_of(
    users: Tensor, items: Tensor, ids: Tensor, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Return Int64[B, C]; see :func:`fastkd.ops.rank_of`. Ids outside [0, N) have rank 0.

    Memory beyond the arguments: 4 bytes per padded number of both tables, O(B C), and 16 MiB of flags.
    """
    if len(items) >= 2**31:
        raise ValueError(f"backend 'triton' ranks fewer than 2**31 items, got {len(items)}; use backend='reference'")
    if ids.numel() == 0 or len(items) == 0:
        return torch.zeros(ids.shape, dtype=torch.int64, device=ids.device)
    users, items, ids = users.detach().contiguous(), items.detach().contiguous(), ids.detach().contiguous()
    bias = None if bias is None else bias.detach().to(torch.float32).contiguous()
    (rows, columns), (count, dim) = ids.shape, items.shape
    own = new((rows, columns), torch.int64, ids.device)
    target_keys[(triton.cdiv(rows * columns, 128),)](
        users, items, bias, ids, own, rows * columns, columns, count, dim, W=128, enable_fp_fusion=False
    )
    keys = own.sort(dim=1).values
    places = torch.zeros((rows, columns + 1), dtype=torch.int32, device=ids.device)
    counts = _sweep(users, items, bias, keys, places)
    steps = columns.bit_length()
    if indptr is not None:
        take_back[(rows, 8)](
            users, items, bias, keys, indptr, indices, places, dim, columns, W=64, STEPS=steps, enable_fp_fusion=False
        )
    beaten = places[:, :columns].cumsum(1, dtype=torch.int64)
    if counts is not None:
        beaten = beaten + counts[:, :columns]
    at = torch.searchsorted(keys, own)
    return torch.where(own == _PAD, 0, 1 + beaten.gather(1, at))


def _sweep(users: Tensor, items: Tensor, bias: Tensor | None, keys: Tensor, places: Tensor) -> Tensor | None:
    """Count every item into ``places`` Int32[B, C + 1]; where targets are few also Int32[B, T] directly."""
    (rows, columns), (count, dim), device = keys.shape, items.shape, keys.device
    left, right = halves(users), halves(items)
    levels, wide, narrow, scaled, odd = _levels(left, right, bias, keys, dim)
    full = count // _BN
    odd = odd[: full * _BN].view(full, _BN).any(1).to(torch.int8)
    counts, steps = None, columns.bit_length()
    first_kernel, second_kernel = (screen_few, refine_few) if columns <= _FEW else (screen_many, refine_many)
    first_arguments: tuple[Any, ...] = (levels.nan_to_num(nan=torch.inf).amin(1), wide, scaled, odd)
    second_arguments: tuple[Any, ...] = (levels, narrow, scaled, places)
    if columns <= _FEW:
        slots = triton.next_power_of_2(columns)
        levels = torch.nn.functional.pad(levels, (0, slots - columns), value=torch.nan)
        counts = torch.zeros((rows, slots), dtype=torch.int32, device=device)
        first_arguments, second_arguments = (levels, wide, scaled, odd, counts), (levels, narrow, scaled, counts)
    segment = max(1, min(_FLAG_BYTES // rows, SECOND_AXIS * _PER_PROGRAM))
    flags = new((min(segment, full + 1), rows), torch.int8, device)
    # Products of halves are exact in float32 for tables that came in half precision: a second look shows no more.
    refine = (
        columns > _FEW or torch.float32 in (users.dtype, items.dtype) or torch.float64 in (users.dtype, items.dtype)
    )
    for first in range(0, full + 1, segment):
        tiles = min(segment, full - first)
        _launch(first_kernel, (left.high, right.high), (*first_arguments, flags), rows, columns, first, tiles)
        if refine:
            _launch(second_kernel, (*left[:2], *right[:2]), (*second_arguments, flags), rows, columns, first, tiles)
        blocks = triton.cdiv(rows, _SETTLED)
        settle[(min(segment, full + 1 - first) * blocks,)](  # one axis: a second one ends at 65,535 programs
            users, items, bias, keys, flags, odd, places, rows, count, dim, columns, first, tiles, full, blocks,
            UB=_SETTLED, BN=_BN, STEPS=steps, enable_fp_fusion=False,
        )  # fmt: skip
    return counts


def _launch(
    kernel: Any, tables: tuple[Tensor, ...], arguments: tuple[Any, ...], rows: int, columns: int, first: int, tiles: int
) -> None:
    """Run one sweep over ``tiles`` tiles from ``first`` on."""
    if tiles <= 0:
        return
    width = tables[0].shape[1]
    shape = shape_of(kernel, width)
    where: tuple[int, ...] = (rows, first, tiles, _PER_PROGRAM)
    constants = shape.constants(width) | shape.options()
    if kernel in (screen_few, refine_few):
        constants["T"] = triton.next_power_of_2(columns)
    if kernel is refine_many:
        where, constants["STEPS"] = (rows, columns, first, tiles, _PER_PROGRAM), columns.bit_length()
    kernel[(triton.cdiv(rows, shape.users), triton.cdiv(tiles, _PER_PROGRAM))](*tables, *arguments, *where, **constants)


def _levels(
    left: Halves, right: Halves, bias: Tensor | None, keys: Tensor, dim: int
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """Return, scaled as the halves are: the targets' scores, both margins, the bias; and which items are odd.

    A user with a target that is no finite number gets infinite margins: every tile is settled exactly for him.
    """
    scale = left.scale * right.scale
    order = keys >> 32
    scores = torch.where(order < 0, ~order, order - 2**31).to(torch.int32).view(torch.float32) * scale
    odd, scaled, largest = right.odd, None, scale.new_zeros(())
    if bias is not None:
        scaled = bias * scale
        odd = odd | scaled.isnan() | (scaled == torch.inf) | (scaled.isinf() & bias.isfinite())
        largest = torch.where(scaled.isfinite(), scaled.abs(), 0.0).amax()
    real = keys != _PAD
    exact = (real & ~scores.isfinite()).any(1)
    wide, narrow = (m.masked_fill(exact | ~m.isfinite(), torch.inf) for m in margins(left, right, largest, dim))
    scores = scores.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).masked_fill(~real, torch.nan)
    return scores, wide, narrow, scaled, odd


def _configuration(kernel: Any, width: int, targets: int, *, bias: bool = False) -> Configuration:
    shape = shape_of(kernel, width)
    types = {
        **dict.fromkeys(("user_high", "user_low", "item_high", "item_low"), "*fp16"),
        **dict.fromkeys(("scores", "lowest", "wide", "narrow"), "*fp32"),
        **dict.fromkeys(("rows", "targets", "first", "tiles", "per_program"), "i32"),
        **({"bias": "*fp32"} if bias else {}),
        **{"odd": "*i8", "flags": "*i8", "counts": "*i32", "places": "*i32"},
    }
    constants: dict[str, Any] = {**shape.constants(width), "T": targets, "STEPS": targets.bit_length(), "bias": None}
    names = kernel.arg_names
    return Configuration(
        name=f"{kernel.fn.__name__}-{targets}-d{width}{'-bias' if bias else ''}",
        kernel=kernel,
        signature={n: t for n, t in types.items() if n in names},
        constants={n: c for n, c in constants.items() if n in names and n not in types},
        num_warps=shape.warps,
        num_stages=shape.stages,
        unaligned=tuple(n for n in ("rows", "first", "tiles", "targets") if n in names),
        scores=shape.users * _BN,
        wgmma=shape.users >= 64,
    )


def _settling(kernel: Any, **constants: int) -> Configuration:
    types = {
        **dict.fromkeys(("users", "items", "table", "bias", "tops", "scale", "facts"), "*fp32"),
        **dict.fromkeys(("ids", "keys", "indptr"), "*i64"),
        **dict.fromkeys(("flags", "odd"), "*i8"),
        **dict.fromkeys(("high", "low"), "*fp16"),
        **dict.fromkeys(("rows", "columns", "count", "dim", "width", "targets", "first", "tiles", "full"), "i32"),
        **dict.fromkeys(("size", "blocks"), "i32"),
        **{"places": "*i32", "indices": "*i32"},
    }
    signature = {n: t for n, t in types.items() if n in kernel.arg_names}
    numbers = tuple(n for n, t in signature.items() if t == "i32")
    exact = kernel in (target_keys, settle, take_back)
    return Configuration(
        name=kernel.fn.__name__, kernel=kernel, signature=signature, constants=constants, unaligned=numbers,
        options={"enable_fp_fusion": False} if exact else {},
    )  # fmt: skip


CONFIGURATIONS = (
    *(
        _configuration(kernel, width, targets, bias=width == 256)
        for kernel, width, targets in (
            (screen_few, 64, 1),
            (screen_few, 128, 1),
            (screen_few, 256, 1),
            (screen_few, 64, 8),
            (refine_few, 64, 1),
            (refine_few, 256, 8),
            (screen_many, 64, 100),
            (screen_many, 256, 100),
            (refine_many, 64, 100),
            (refine_many, 256, 4096),
        )
    ),
    _settling(target_keys, W=128),
    _settling(settle, UB=_SETTLED, BN=_BN, STEPS=7),
    _settling(take_back, W=64, STEPS=7),
    _settling(_row_tops, R=16, D=64),
    _settling(_split, R=16, W=64),
)
