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
"""Vectors of a sum made at a time: with 6, 8 or 12 sums, up to 24 registers of them."""
_TERMS = 512
"""Terms added before the next columns: their part of the table stays in the cache for all sums."""


def combine(tile: Tensor, table: Tensor, first: int, out: Tensor) -> None:
    """Write ``out[b] = sum_j tile[b, j] table[first + j]``; all contiguous."""
    count, width = tile.shape
    if not multiplies(tile.dtype):
        torch.mm(tile, table[first : first + width], out=out)
        return
    weigh_inside(tile.numpy(), width, 1, count, width, table.numpy(), first, out.numpy(), False)


def combine_across(tile: Tensor, table: Tensor, first: int, out: Tensor) -> None:
    """Add ``sum_b tile[b, j] table[first + b]`` to ``out[j]``; all contiguous."""
    count, width = tile.shape
    if not multiplies(tile.dtype):
        out.addmm_(tile.T, table[first : first + count])
        return
    weigh_inside(tile.numpy(), 1, width, width, count, table.numpy(), first, out.numpy(), True)


def readable(table: Tensor, first: int, terms: int) -> tuple[Tensor, int]:
    """Return (table, first row) of the same rows, copied where the last vector of the last would end outside."""
    dim = table.shape[1]
    whole = -(-dim // LANES) * LANES
    if (first + terms - 1) * dim + whole <= table.numel():
        return table, first
    copy = torch.zeros(terms, whole, dtype=torch.float32, device="cpu")
    copy[:, :dim] = table[first : first + terms]
    return copy, 0


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


_one: Any = _block(12, 1)
_two: Any = _block(12, 2)
_three: Any = _block(8, 3)
_four: Any = _block(6, 4)


@jit()
def weigh_rows(
    numbers: Floats, origin: int, across: int, step: int, sums: int, terms: int, table: Floats, first: int,
    out: Floats, add: bool,
) -> None:  # fmt: skip
    """Make ``out[m] = sum_k numbers[origin + m * across + k * step] table[first + k]`` for m < sums, k < terms.

    ``add``: add them to what is there. ``out`` is as wide as the table, or narrower by what fills its last vector.
    """
    for column in range(0, out.shape[1], _WIDEST * LANES):
        have = min(_WIDEST * LANES, out.shape[1] - column)
        for start in range(0, terms, _TERMS):
            now, begin = min(_TERMS, terms - start), origin + start * step
            more = add or start > 0
            _weigh_columns(numbers, begin, across, step, sums, now, table, first + start, column, have, out, more)


@jit()
def _weigh_columns(
    numbers: Floats, origin: int, across: int, step: int, sums: int, terms: int, table: Floats, first: int,
    column: int, have: int, out: Floats, add: bool,
) -> None:  # fmt: skip
    """Make the sums of up to four vectors' columns, as many at a time as registers hold."""
    width = table.shape[1]
    at, vectors = first * width + column, -(-have // LANES)
    size = 12 if vectors <= 2 else 8 if vectors == 3 else 6
    spare = np.empty(size * vectors * LANES, dtype=np.float32)
    for start in range(0, sums, size):
        now, begin = min(size, sums - start), origin + start * across
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


@jit()
def weigh_inside(
    numbers: Floats, across: int, step: int, sums: int, terms: int, table: Floats, first: int, out: Floats, add: bool
) -> None:
    """Make :func:`weigh_rows` from rows of which the last vector may end outside the table: those are copied."""
    dim = table.shape[1]
    whole = -(-dim // LANES) * LANES
    if (first + terms - 1) * dim + whole <= table.size:
        weigh_rows(numbers, 0, across, step, sums, terms, table, first, out, add)
        return
    copy = np.zeros((terms, whole), dtype=np.float32)
    copy[:, :dim] = table[first : first + terms]
    weigh_rows(numbers, 0, across, step, sums, terms, copy, 0, out, add)
