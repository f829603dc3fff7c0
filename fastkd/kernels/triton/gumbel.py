"""Gumbel noise on the GPU: bit for bit the draws of the reference.

A program owns ROWS rows and BLOCK counters of each, so four stretches of columns a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._random import log
from fastkd.kernels.triton.philox import key_tensor, key_words, philox4x32, uniform_open, user_words

_COUNTERS = 128


def gumbel(rows: Tensor, columns: int, key: int) -> Tensor:
    """Return Float32[n, E]; see :func:`fastkd.ops.gumbel`."""
    out = new((len(rows), columns), torch.float32, rows.device)
    if out.numel():
        counters = triton.cdiv(columns, 4)
        sizes = _sizes(counters)
        across = triton.cdiv(counters, sizes["BLOCK"])
        _drawn[(triton.cdiv(len(rows), sizes["ROWS"]) * across,)](
            rows.contiguous(), key_tensor(key, rows.device), out, len(rows), columns, counters, across,
            **sizes, num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def _sizes(counters: int) -> dict[str, int]:
    block = min(triton.next_power_of_2(counters), _COUNTERS)
    return {"ROWS": _COUNTERS // block, "BLOCK": block}


@triton.jit
def _drawn(rows, key, out, R, E, counters, across, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Write out [R, E] of rows [R]."""
    program = tl.program_id(0).to(tl.int64)
    r = program // across * ROWS + tl.arange(0, ROWS)
    c = program % across * BLOCK + tl.arange(0, BLOCK)
    k0, k1 = key_words(key)
    low, high = user_words(tl.load(rows + r, r < R, other=0))
    none = tl.zeros([ROWS, BLOCK], tl.uint32)
    words = philox4x32(none + c[None, :].to(tl.uint32), none + low[:, None], none + high[:, None], none, k0, k1)
    for k in tl.static_range(4):
        column = k * counters + c
        live = (r < R)[:, None] & ((c < counters) & (column < E))[None, :]
        value = 0.0 - log(0.0 - log(uniform_open(words[k])))
        tl.store(out + r[:, None] * E + column[None, :], value.to(tl.float32), live)


CONFIGURATIONS = tuple(
    Configuration(
        name=f"e{columns}",
        kernel=_drawn,
        signature={
            "rows": "*i64", "key": "*i64", "out": "*fp32", "R": "i32", "E": "i32", "counters": "i32", "across": "i32",
        },
        constants=_sizes(triton.cdiv(columns, 4)),
        options={"enable_fp_fusion": False},
        unaligned=("R", "E", "counters", "across"),
    )
    for columns in (5, 30, 1000)
)  # fmt: skip
