"""Telling the processor early which row of a table comes next: random rows of a big table are waited for otherwise."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

AHEAD = 8
"""Rows between the one asked for and the one at work: more would be pushed out of the cache again."""

_LINE = 64


def _prefetch_row(_: Any, table: Any, i: Any) -> Any:
    """Ask for ``table[i]``, an entry of a vector or a row of a matrix; a place outside the table is no error."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        whole = context.make_array(kind)(context, builder, args[0])
        size, number = ir.IntType(64), ir.IntType(32)
        pointer = ir.IntType(8).as_pointer()
        row = builder.mul(builder.extract_value(whole.strides, 0), args[1])
        start = builder.add(builder.ptrtoint(whole.data, size), row)
        ask = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        )
        if kind.ndim == 1:
            lines = size(1)
        else:
            length = builder.mul(builder.extract_value(whole.shape, 1), size(kind.dtype.bitwidth // 8))
            lines = builder.udiv(builder.add(length, size(_LINE - 1)), size(_LINE))
        with cgutils.for_range(builder, lines) as loop:
            place = builder.inttoptr(builder.add(start, builder.mul(loop.index, size(_LINE))), pointer)
            # To be read, kept in all caches, data.
            builder.call(ask, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(table, types.intp), generate


prefetch_row: Any = intrinsic(_prefetch_row)
