"""Comparisons of 64 scores at once, as bits: what a selection loop branches on instead of on every score."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

LANES = 64
"""Scores compared at a time."""


def _mask(operator: str, *, nan: bool) -> Any:
    """Return the code of ``row[start : start + 64] <operator> bound`` as bits of an integer; NaN compares ``nan``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row, start, bound = args
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, row).data
        element = context.get_data_type(kind.dtype)
        vector = ir.VectorType(element, LANES)
        place = builder.bitcast(builder.gep(data, [start]), vector.as_pointer())
        scores = builder.load(place, align=kind.dtype.bitwidth // 8)
        one = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        empty = ir.Constant(vector, ir.Undefined)
        bounds = builder.shuffle_vector(builder.insert_element(empty, bound, ir.IntType(32)(0)), empty, one)
        compare = builder.fcmp_unordered if nan else builder.fcmp_ordered
        return builder.bitcast(compare(operator, scores, bounds), ir.IntType(LANES))

    return generate


def _above(_: Any, row: Any, start: Any, bound: Any) -> Any:
    """Return as uint64 which of ``row[start : start + 64]`` are above ``bound`` (bit j: score j); NaN is not.

    ``row``: contiguous, with 64 entries from ``start`` on. ``bound``: a number of the row's dtype.
    """
    return types.uint64(row, types.intp, row.dtype), _mask(">", nan=False)


def _not_below(_: Any, row: Any, start: Any, bound: Any) -> Any:
    """Return as uint64 which of ``row[start : start + 64]`` are not below ``bound`` (bit j: score j); NaN is not."""
    return types.uint64(row, types.intp, row.dtype), _mask(">=", nan=True)


def _first_bit(_: Any, bits: Any) -> Any:
    """Return the position of the lowest bit of a uint64 that is not 0."""

    def generate(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate


above: Any = intrinsic(_above)
not_below: Any = intrinsic(_not_below)
first_bit: Any = intrinsic(_first_bit)
