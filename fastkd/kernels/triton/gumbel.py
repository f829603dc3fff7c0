"""Gumbel noise on the GPU: bit for bit the draws of the reference."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._random import log
from fastkd.kernels.triton._row_words import draw, grid, owned, place, sizes
from fastkd.kernels.triton.philox import key_tensor, uniform_open

_COUNTERS = 128


def gumbel(rows: Tensor, columns: int, key: int) -> Tensor:
    """Return Float32[n, E]; see :func:`fastkd.ops.gumbel`."""
    out = new((len(rows), columns), torch.float32, rows.device)
    if out.numel():
        shape = sizes(columns, _COUNTERS)
        _drawn[grid(len(rows), columns, shape)](
            rows.contiguous(), key_tensor(key, rows.device), out, len(rows), columns,
            **shape, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return out


@triton.jit
def _drawn(rows, key, out, R, E, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Write out [R, E] of rows [R]."""
    r, c, counters = owned(E, ROWS, BLOCK)
    words = draw(rows, key, r, c, R, ROWS, BLOCK)
    for k in tl.static_range(4):
        at, live = place(r, c, counters, k, R, E)
        value = 0.0 - log(0.0 - log(uniform_open(words[k])))
        tl.store(out + at, value.to(tl.float32), live)


CONFIGURATIONS = tuple(
    Configuration(
        name=f"e{columns}",
        kernel=_drawn,
        signature={"rows": "*i64", "key": "*i64", "out": "*fp32", "R": "i32", "E": "i32"},
        constants=sizes(columns, _COUNTERS),
        options={"enable_fp_fusion": False},
        unaligned=("R", "E"),
    )
    for columns in (5, 30, 1000)
)  # fmt: skip
