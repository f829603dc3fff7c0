"""Dropout on the GPU: bit for bit the draws of the reference.

A program owns ROWS rows and BLOCK counters of each, so four stretches of columns a row. Everything is read and written
once.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import split
from fastkd.kernels.triton.philox import key_tensor, key_words, philox4x32, user_words

_COUNTERS = 256


def dropout(x: Tensor, rows: Tensor, below: int, scale: float, key: int) -> Tensor:
    """Return ``x * scale`` where kept, else 0; see :func:`fastkd.ops.dropout`."""
    out = new(tuple(x.shape), x.dtype, x.device)
    if out.numel():
        counters = triton.cdiv(x.shape[1], 4)
        sizes = _sizes(counters)
        across = triton.cdiv(counters, sizes["BLOCK"])
        _kept[(triton.cdiv(len(x), sizes["ROWS"]) * across,)](
            x.contiguous(), rows.contiguous(), key_tensor(key, x.device), out, len(x), x.shape[1], counters, across,
            below - 1 - 2**31, *split(scale), **sizes, num_warps=4,
        )  # fmt: skip
    return out


def _sizes(counters: int) -> dict[str, int]:
    block = min(triton.next_power_of_2(counters), _COUNTERS)
    return {"ROWS": _COUNTERS // block, "BLOCK": block}


@triton.jit
def _kept(
    x, rows, key, out, R, D, counters, across, last, scale, scale_rest, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """x, out [R, D], rows [R]; ``last``: the largest word that keeps a value, less 2^31."""
    program = tl.program_id(0).to(tl.int64)
    r = program // across * ROWS + tl.arange(0, ROWS)
    c = program % across * BLOCK + tl.arange(0, BLOCK)
    k0, k1 = key_words(key)
    low, high = user_words(tl.load(rows + r, r < R, other=0))
    none = tl.zeros([ROWS, BLOCK], tl.uint32)
    words = philox4x32(none + c[None, :].to(tl.uint32), none + low[:, None], none + high[:, None], none, k0, k1)
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    factor = tl.full([1, 1], 0.0, wide) + scale + tl.full([1, 1], 0.0, wide) + scale_rest
    bound = (last.to(tl.int64) + 2147483648).to(tl.uint32)
    for k in tl.static_range(4):
        column = k * counters + c
        place = r[:, None] * D + column[None, :]
        live = (r < R)[:, None] & ((c < counters) & (column < D))[None, :]
        value = tl.load(x + place, live, other=0.0).to(wide) * factor
        tl.store(out + place, tl.where(words[k] <= bound, value, 0.0).to(out.dtype.element_ty), live)


CONFIGURATIONS = tuple(
    Configuration(
        name=f"{kind}-d{dim}",
        kernel=_kept,
        signature={
            "x": f"*{kind}", "rows": "*i64", "key": "*i64", "out": f"*{kind}", "R": "i32", "D": "i32",
            "counters": "i32", "across": "i32", "last": "i32", "scale": "fp32", "scale_rest": "fp32",
        },
        constants=_sizes(triton.cdiv(dim, 4)),
        unaligned=("R", "D", "counters", "across", "last"),
    )
    for kind, dim in (("fp32", 20), ("fp32", 500), ("fp32", 4000), ("bf16", 500))
)  # fmt: skip
