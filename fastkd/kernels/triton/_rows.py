"""What the row losses share: dtypes, tile sizes, and floats that keep their digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._math import INTERPRETING

TRITON = {torch.float32: tl.float32, torch.float64: tl.float64}
"""The dtypes that kernels compute in."""

_TILE = 1024


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 if a tensor is, float32 otherwise (half precision included)."""
    for tensor in tensors:
        if tensor.dtype is torch.float64:
            return torch.float64
    return torch.float32


def tile(columns: int) -> tuple[int, int]:
    """Return (rows, columns) of the tile one program walks along its rows: wide lists one by one, short ones together.

    Powers of two, as Triton asks; 1024 numbers at most, 8 to a thread of 4 warps.
    """
    width = min(_TILE, triton.next_power_of_2(max(columns, 1)))
    return _TILE // width, width


def split(value: float) -> tuple[float, float]:
    """Return two float32 numbers whose sum is ``value`` to 48 bits: Triton hands a Python float over as float32."""
    high = float(torch.tensor(value, dtype=torch.float32))
    return high, value - high


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """Return the tensor with its elements in order, or None."""
    return None if tensor is None else tensor.contiguous()


def configuration(
    name: str, kernel: Any, pointers: Mapping[str, str], scalars: Mapping[str, str], constants: Mapping[str, Any],
    **options: Any,
) -> Configuration:  # fmt: skip
    """Return a :class:`Configuration` whose numbers (not pointers) promise no divisibility, as a launch does not."""
    unaligned = tuple(n for n, t in scalars.items() if not t.startswith("fp"))
    return Configuration(
        name=name, kernel=kernel, signature={**pointers, **scalars}, constants=constants, unaligned=unaligned, **options
    )


@triton.jit
def real(high, rest, TYPE: tl.constexpr):
    """Return the number that :func:`split` took apart, Float[1]."""
    return tl.full([1], 0.0, TYPE) + high + tl.full([1], 0.0, TYPE) + rest


@triton.jit
def narrow(x, TYPE: tl.constexpr):
    """Return ``x`` in the dtype it is stored in, rounded to nearest; the interpreter would cut bfloat16 off."""
    if INTERPRETING and tl.bfloat16 == TYPE:
        bits = x.to(tl.float32).to(tl.int32, bitcast=True)
        even = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        return tl.where(x == x, even.to(tl.float32, bitcast=True), x.to(tl.float32)).to(tl.bfloat16)
    return x.to(TYPE)
