"""Sums of weighted rows of a table, kept in registers while all rows go by: memory is written once a sum."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]
Ints = NDArray[Any]

_LANES = 16


def _block(vectors: int) -> Any:
    def weighted(_: Any, table: Any, rows: Any, values: Any, begin: Any, end: Any, out: Any, at: Any) -> Any:
        """Write ``out[at + j] = sum_e values[e] table[rows[e], at + j]``, e in [begin, end) in order, for a block of j.

        All contiguous, floats of one dtype; every row is inside the table.
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            arrays = [context.make_array(k)(context, builder, a) for k, a in zip(signature.args, args, strict=False)
                      if isinstance(k, types.Array)]  # fmt: skip
            matrix, listed, weights, target = arrays
            element = context.get_data_type(table.dtype)
            vector, align = ir.VectorType(element, _LANES), table.dtype.bitwidth // 8
            first, last, start = args[3], args[4], args[6]
            width = builder.extract_value(matrix.shape, 1)
            slot: Any = cgutils.alloca_once_value
            sums = [slot(builder, ir.Constant(vector, [0.0] * _LANES)) for _ in range(vectors)]
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
            empty = ir.Constant(vector, ir.Undefined)
            with cgutils.for_range_slice(builder, first, last, ir.Constant(first.type, 1), first.type) as (e, _):
                row = builder.load(builder.gep(listed.data, [e]))
                row = builder.sext(row, width.type) if row.type.width < width.type.width else row
                value = builder.load(builder.gep(weights.data, [e]))
                factor = builder.insert_element(empty, value, ir.IntType(32)(0))
                factor = builder.shuffle_vector(factor, empty, everywhere)
                place = builder.add(builder.mul(row, width), start)
                for k, total in enumerate(sums):
                    data = builder.gep(matrix.data, [builder.add(place, ir.Constant(place.type, k * _LANES))])
                    part = builder.load(builder.bitcast(data, vector.as_pointer()), align=align)
                    product = builder.fmul(part, factor, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), product, flags=("contract",)), total)
            for k, total in enumerate(sums):
                data = builder.gep(target.data, [builder.add(start, ir.Constant(start.type, k * _LANES))])
                builder.store(builder.load(total), builder.bitcast(data, vector.as_pointer()), align=align)
            return context.get_dummy_value()

        return types.void(table, rows, values, types.intp, types.intp, out, types.intp), generate

    return intrinsic(weighted)


_wide: Any = _block(4)
_narrow: Any = _block(2)


@jit(fastmath={"contract"})
def sum_rows(table: Floats, rows: Ints, values: Floats, begin: int, end: int, out: Floats) -> None:
    """Write ``sum_e values[e] table[rows[e]]`` over e in [begin, end), in that order."""
    dim, d = len(out), 0
    while d + 4 * _LANES <= dim:
        _wide(table, rows, values, begin, end, out, d)
        d += 4 * _LANES
    if d + 2 * _LANES <= dim:
        _narrow(table, rows, values, begin, end, out, d)
        d += 2 * _LANES
    if d < dim:
        _few(table, rows, values, begin, end, out, d)


@jit(fastmath={"contract"})
def _few(table: Floats, rows: Ints, values: Floats, begin: int, end: int, out: Floats, start: int) -> None:
    """Sum from place ``start`` on: four entries a pass, so that the sums are read and written a quarter as often."""
    target = out[start:]
    target[:] = 0
    e = begin
    while e + 4 <= end:
        v0, v1, v2, v3 = values[e], values[e + 1], values[e + 2], values[e + 3]
        p0, p1 = table[rows[e]][start:], table[rows[e + 1]][start:]
        p2, p3 = table[rows[e + 2]][start:], table[rows[e + 3]][start:]
        for d in range(len(target)):
            target[d] = target[d] + v0 * p0[d] + v1 * p1[d] + v2 * p2[d] + v3 * p3[d]
        e += 4
    while e < end:
        v0, p0 = values[e], table[rows[e]][start:]
        for d in range(len(target)):
            target[d] += v0 * p0[d]
        e += 1
