"""How the catalogue kernels are started: dtypes, tiles, ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import triton
from torch import Tensor

_PROGRAMS = 512
"""Programs that keep a large GPU busy; the catalogue is cut into ranges until there are as many."""
_PARTIAL_BYTES = 256 << 20

PairKernel = Literal["sums", "users", "items"]


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Sizes of a sweep: BM users x BN items a tile, BD dimensions a block, ``chunks`` blocks to a row.

    ``registers``: the most a thread may take; None leaves it to the assembler, which now and then spills a few numbers
    to stay at 80 or 128 although more would not cost a block.
    """

    users: int
    items: int
    block: int
    chunks: int
    warps: int
    stages: int
    exact: bool
    precision: str
    registers: int | None = None

    def constants(self) -> dict[str, object]:
        """Return the kernels' constants."""
        return {
            "BM": self.users, "BN": self.items, "BD": self.block, "CHUNKS": self.chunks, "EXACT": self.exact,
            "PRECISION": self.precision,
        }  # fmt: skip

    def limits(self) -> dict[str, int]:
        """Return the compiler's options beside warps and stages."""
        return {} if self.registers is None else {"maxnreg": self.registers}

    def launch(self) -> dict[str, Any]:
        """Return what a launch passes on: constants and compiler options."""
        return {**self.constants(), **self.limits(), "num_warps": self.warps, "num_stages": self.stages}


def table_dtype(*tables: Tensor) -> torch.dtype:
    """Return the one dtype that tables are read in: their own if they share it, else the wider, float32 at least."""
    if len({t.dtype for t in tables}) == 1:
        return tables[0].dtype
    dtype = torch.float32
    for table in tables:
        dtype = torch.promote_types(dtype, table.dtype)
    return dtype


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of sums and results: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def rows_of(table: Tensor, dtype: torch.dtype, scale: float) -> Tensor:
    """Return contiguous rows; times ``scale`` in float64, where kernels take no float argument."""
    table = table.detach().to(dtype).contiguous()
    return table * scale if dtype == torch.float64 else table


def fp32_precision() -> str:
    """Return how float32 tables are multiplied: as torch would."""
    matmul = torch.backends.cuda.matmul
    # torch 2.9 and later raise where the older name is read after the newer one was set.
    allowed = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    return "tf32" if allowed else "ieee"


def capability(device: torch.device) -> int:
    """Return which of the targets' tiles a device takes: 80, 90 or 100; 90 for the interpreter."""
    if device.type != "cuda":
        return 90
    found = 10 * torch.cuda.get_device_capability(device)[0]
    return min(max(found, 80), 100)


def pick_tiles(
    dtype: torch.dtype, width: int, target: int, *, owner: Literal["users", "items"], excluded: bool
) -> Tiles:
    """Return the tile sizes of a sweep whose programs own users or items, on a GPU of capability ``target``.

    None of them spills: see ``python benchmarks/compile_report.py catalogue_softmax``.
    """
    if dtype == torch.float64:
        return _tiles(16, 16, 16, width, 4, 1, exact=True)
    if dtype == torch.float32:
        tiles = _tiles(32, 32, 32, width, 4, 2, precision=fp32_precision())
        return tiles if owner == "users" else replace(tiles, registers=128)
    block = min(max(16, triton.next_power_of_2(width)), 256)
    old = target == 80
    if block == 256:
        if old and owner == "users":  # a 64 x 256 sum and its operands do not fit without warpgroup products
            return _tiles(32, 64 if excluded else 128, block, width, 8, 2)
        tiles = _tiles(64, 64, block, width, 8, 2)
        return replace(tiles, registers=224) if target == 100 and owner == "items" and excluded else tiles
    if block == 128:
        return _tiles(128, 64, block, width, 8, 3)
    if owner == "users":
        return _tiles(128, 128, block, width, 8, 3)
    return _tiles(64 if old and excluded else 128, 128, block, width, 8, 2)


def _tiles(
    users: int, items: int, block: int, width: int, warps: int, stages: int, *, exact: bool = False,
    precision: str = "ieee",
) -> Tiles:  # fmt: skip
    chunks = max(1, math.ceil(width / block))
    return Tiles(users=users, items=items, block=block, chunks=chunks, warps=warps, stages=stages, exact=exact,
                 precision=precision)  # fmt: skip


def pick_pair_tiles(
    dtype: torch.dtype, width: int, teacher_width: int, target: int, *, kernel: PairKernel, excluded: bool
) -> tuple[Tiles, dict[str, int]]:
    """Return tile sizes for two pairs of tables, and the teacher's own constants; "sums" and "users" share shapes.

    None of them spills: see ``python benchmarks/compile_report.py catalogue_divergence``.
    """
    if dtype == torch.float64:
        tiles, block = _tiles(16, 16, 16, width, 4, 1, exact=True), 16
    elif dtype == torch.float32:
        tiles, block = _tiles(32, 32, 32, width, 4, 2, precision=fp32_precision()), 32
        if kernel == "sums" and target == 80:
            tiles = replace(tiles, registers=160)
    else:
        block = min(max(16, triton.next_power_of_2(teacher_width)), 128)
        tiles = _tiles(64, 64, min(max(16, triton.next_power_of_2(width)), 128), width, 8, 2)
        wide = max(tiles.chunks, teacher_width / block) > 1
        if kernel == "sums" and target == 100 and not wide:
            tiles = replace(tiles, registers=224)
        if kernel == "items" and target == 80:
            tiles = replace(tiles, items=32 if excluded else 64, stages=1 if wide else 2)
    return tiles, {"BE": block, "T_CHUNKS": max(1, math.ceil(teacher_width / block))}


def cut_catalogue(count: int, num_items: int, width: int, tiles: Tiles) -> tuple[int, int]:
    """Return (ranges, items of a range, whole tiles): a function of shapes alone."""
    blocks = max(1, math.ceil(count / tiles.users))
    item_tiles = max(1, math.ceil(num_items / tiles.items))
    room = max(1, _PARTIAL_BYTES // max(1, 4 * count * width))
    ranges = max(1, min(math.ceil(_PROGRAMS / blocks), math.ceil(item_tiles / 4), room))
    each = math.ceil(item_tiles / ranges)
    return math.ceil(item_tiles / each), each * tiles.items


def search_steps(indices: Tensor | None) -> int:
    """Return how many halvings find a place in any row of an exclusion."""
    return 0 if indices is None else int(indices.shape[0]).bit_length()
