"""How the catalogue kernels are started: dtypes, tiles, ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

_PROGRAMS = 512
"""Programs that keep a large GPU busy; the catalogue is cut into ranges until there are as many."""
_PARTIAL_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Sizes of a sweep: BM users x BN items a tile, BD dimensions a block, ``chunks`` blocks to a row."""

    users: int
    items: int
    block: int
    chunks: int
    warps: int
    stages: int
    exact: bool
    precision: str

    def constants(self) -> dict[str, object]:
        """Return the kernels' constants and launch options."""
        return {
            "BM": self.users, "BN": self.items, "BD": self.block, "CHUNKS": self.chunks, "EXACT": self.exact,
            "PRECISION": self.precision, "num_warps": self.warps, "num_stages": self.stages,
        }  # fmt: skip


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
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


def pick_tiles(dtype: torch.dtype, width: int) -> Tiles:
    """Return the tile sizes for tables of a dtype and width (the wider one, of two)."""
    if dtype == torch.float64:
        return _tiles(16, 16, 16, width, 4, 1, exact=True)
    if dtype == torch.float32:
        return _tiles(32, 32, 32, width, 4, 2, precision=fp32_precision())
    block = min(max(16, triton.next_power_of_2(width)), 256)
    if block <= 64:
        return _tiles(128, 128, block, width, 8, 3)
    if block == 128:
        return _tiles(128, 64, block, width, 8, 3)
    return _tiles(64, 64, block, width, 8, 2)


def _tiles(
    users: int, items: int, block: int, width: int, warps: int, stages: int, *, exact: bool = False,
    precision: str = "ieee",
) -> Tiles:  # fmt: skip
    chunks = max(1, math.ceil(width / block))
    return Tiles(users=users, items=items, block=block, chunks=chunks, warps=warps, stages=stages, exact=exact,
                 precision=precision)  # fmt: skip


def pick_pair_tiles(dtype: torch.dtype, width: int, teacher_width: int) -> tuple[Tiles, dict[str, int]]:
    """Return tile sizes for two pairs of tables, and the teacher's own constants."""
    if dtype == torch.float64:
        tiles, block = _tiles(16, 16, 16, width, 4, 1, exact=True), 16
    elif dtype == torch.float32:
        tiles, block = _tiles(32, 32, 32, width, 4, 2, precision=fp32_precision()), 32
    else:
        block = min(max(16, triton.next_power_of_2(teacher_width)), 128)
        tiles = _tiles(64, 64, min(max(16, triton.next_power_of_2(width)), 128), width, 8, 2)
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
