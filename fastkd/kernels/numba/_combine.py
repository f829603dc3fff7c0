"""Sums of vectors weighted by a tile of numbers, in 512-bit registers; see :mod:`_product`, which makes the tiles.

``combine``: ``out[b] = sum_j tile[b, j] rows[j]``. ``combine_across``: ``out[j] += sum_b tile[b, j] rows[b]``. A sum
is one chain of fused additions in the order of its terms. Shapes: a tile is B x W, D dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._product import (
    LANES,
    ROW,
    constant,
    everywhere,
    multiplies,
    pointers,
    vector_at,
)

Floats = NDArray[Any]

_WIDEST = 4
_SUMS = {1: 12, 2: 12, 3: 8, 4: 6}
"""Vectors a sum is wide -> sums made at a time: up to 24 registers of them."""


def combine(tile: Tensor, table: Tensor, first: int, out: Tensor) -> None:
    """Write ``out[b] = sum_j tile[b, j] table[first + j]``; all contiguous."""
    count, width = tile.shape
    if not multiplies(tile.dtype):
        torch.mm(tile, table[first : first + width], out=out)
        return
    _run(tile, (width, 1), (count, width), table, first, out, False)


def combine_across(tile: Tensor, table: Tensor, first: int, out: Tensor) -> None:
    """Add ``sum_b tile[b, j] table[first + b]`` to ``out[j]``; all contiguous."""
    count, width = tile.shape
    if not multiplies(tile.dtype):
        out.addmm_(tile.T, table[first : first + count])
        return
    _run(tile, (1, width), (width, count), table, first, out, True)


def _run(
    tile: Tensor, steps: tuple[int, int], sizes: tuple[int, int], table: Tensor, first: int, out: Tensor, add: bool
) -> None:
    dim = table.shape[1]
    vectors = -(-dim // LANES)
    if (first + sizes[1] - 1) * dim + vectors * LANES > table.numel():
        # The last vector of the last row would end outside the table.
        ends = torch.zeros(sizes[1], vectors * LANES, dtype=torch.float32, device="cpu")
        ends[:, :dim] = table[first : first + sizes[1]]
        table, first = ends, 0
    numbers, rows, target = tile.numpy(), table.numpy(), out.numpy()
    for done in range(0, vectors, _WIDEST):
        size = _SUMS[min(_WIDEST, vectors - done)]
        _weigh_rows(numbers, *steps, *sizes, rows, first, done * LANES, size, target, add)


def _block(sums: int, vectors: int) -> Any:
    def weighted(
        _: Any, numbers: Any, start: Any, step: Any, across: Any, have: Any, count: Any, table: Any, at: Any, out: Any
    ) -> Any:
        """Write ``out[m, :] = sum_k numbers[start + m * across + k * step] table[at + k * width :]`` for m < have."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            width = builder.extract_value(context.make_array(signature.args[6])(context, builder, args[6]).shape, 1)
            given = pointers(context, builder, signature, args)
            data, begin, stride, apart, valid, terms, source, place, target = given
            slot: Any = cgutils.alloca_once_value
            places = [[slot(builder, ir.Constant(ROW, [0.0] * LANES)) for _ in range(vectors)] for _ in range(sums)]
            origin, last = builder.gep(data, [begin]), builder.sub(valid, constant(1))
            rows = []
            for m in range(sums):  # past the last sum the last one is made again, and not used
                mine = builder.select(builder.icmp_signed("<", constant(m), valid), constant(m), last)
                rows.append(builder.gep(origin, [builder.mul(apart, mine)]))
            first = builder.gep(source, [place])
            with cgutils.for_range_slice(builder, constant(0), terms, constant(1), terms.type) as (k, _):
                along, down = builder.mul(k, stride), builder.mul(k, width)
                parts = [builder.load(vector_at(builder, first, builder.add(down, constant(n * LANES))), align=4)
                         for n in range(vectors)]  # fmt: skip
                for row, slots in zip(rows, places, strict=True):
                    number = everywhere(builder, builder.load(builder.gep(row, [along])))
                    for place_of, part in zip(slots, parts, strict=True):
                        product = builder.fmul(number, part, flags=("contract",))
                        builder.store(builder.fadd(builder.load(place_of), product, flags=("contract",)), place_of)
            for m, slots in enumerate(places):
                for n, place_of in enumerate(slots):
                    cell = constant((m * vectors + n) * LANES)
                    builder.store(builder.load(place_of), vector_at(builder, target, cell), align=4)
            return context.get_dummy_value()

        number = types.intp
        return types.void(numbers, number, number, number, number, number, table, number, out), generate

    return intrinsic(weighted)


_one: Any = _block(_SUMS[1], 1)
_two: Any = _block(_SUMS[2], 2)
_three: Any = _block(_SUMS[3], 3)
_four: Any = _block(_SUMS[4], 4)


@jit()
def _weigh_rows(
    numbers: Floats, across: int, step: int, sums: int, terms: int, table: Floats, first: int, column: int, size: int,
    out: Floats, add: bool,
) -> None:  # fmt: skip
    """Make the sums of up to four vectors' columns from ``column`` on, ``size`` of them at a time."""
    width = table.shape[1]
    have, at = min(_WIDEST * LANES, out.shape[1] - column), first * width + column
    spare = np.empty(size * _WIDEST * LANES, dtype=np.float32)
    vectors = -(-have // LANES)
    for start in range(0, sums, size):
        now, begin = min(size, sums - start), start * across
        if vectors == 4:
            _four(numbers, begin, step, across, now, terms, table, at, spare)
        elif vectors == 3:
            _three(numbers, begin, step, across, now, terms, table, at, spare)
        elif vectors == 2:
            _two(numbers, begin, step, across, now, terms, table, at, spare)
        else:
            _one(numbers, begin, step, across, now, terms, table, at, spare)
        for m in range(now):
            target, found = out[start + m, column : column + have], spare[m * vectors * LANES :]
            if add:
                for d in range(have):
                    target[d] += found[d]
            else:
                for d in range(have):
                    target[d] = found[d]
