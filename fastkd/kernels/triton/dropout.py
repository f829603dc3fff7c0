"""Dropout on the GPU: bit for bit the draws of the reference. Everything is read and written once."""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._row_words import draw, grid, owned, place, sizes
from fastkd.kernels.triton.philox import key_tensor

_COUNTERS = 256


def dropout(x: Tensor, rows: Tensor, below: int, scale: float, key: int) -> Tensor:
    """Return ``x * scale`` where kept, else 0; see :func:`fastkd.ops.dropout`."""
    out = new(tuple(x.shape), x.dtype, x.device)
    if out.numel():
        shape = sizes(x.shape[1], _COUNTERS)
        _kept[grid(len(x), x.shape[1], shape)](
            x.contiguous(), rows.contiguous(), key_tensor(key, x.device), out, len(x), x.shape[1],
            below - 1 - 2**31, *_parts(scale), **shape, num_warps=4,
        )  # fmt: skip
    return out


def _parts(scale: float) -> tuple[float, float, float]:
    """Return three float32 numbers whose sum in float64 is ``scale``: Triton hands a Python float over as float32."""
    high = np.float32(scale)
    middle = np.float32(scale - float(high))
    return float(high), float(middle), scale - float(high) - float(middle)


@triton.jit
def _kept(x, rows, key, out, R, D, last, high, middle, low, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """x, out [R, D], rows [R]; ``last``: the largest word that keeps a value, less 2^31."""
    r, c, counters = owned(D, ROWS, BLOCK)
    words = draw(rows, key, r, c, R, ROWS, BLOCK)
    wide: tl.constexpr = tl.float64 if x.dtype.element_ty == tl.float64 else tl.float32
    nothing = tl.full([1, 1], 0.0, wide)
    factor = nothing + high
    if wide == tl.float64:
        factor = factor + (nothing + middle) + (nothing + low)
    bound = (tl.cast(last, tl.int64) + 2147483648).to(tl.uint32)
    for k in tl.static_range(4):
        at, live = place(r, c, counters, k, R, D)
        value = tl.load(x + at, live, other=0.0).to(wide) * factor
        tl.store(out + at, tl.where(words[k] <= bound, value, 0.0).to(out.dtype.element_ty), live)


CONFIGURATIONS = tuple(
    Configuration(
        name=f"{kind}-d{dim}",
        kernel=_kept,
        signature={
            "x": f"*{kind}", "rows": "*i64", "key": "*i64", "out": f"*{kind}", "R": "i32", "D": "i32",
            "last": "i32", "high": "fp32", "middle": "fp32", "low": "fp32",
        },
        constants=sizes(dim, _COUNTERS),
        unaligned=("R", "D", "last"),
    )
    for kind, dim in (("fp32", 20), ("fp32", 500), ("fp32", 4000), ("bf16", 500))
)  # fmt: skip
