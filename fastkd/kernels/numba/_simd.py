"""Vector code that a loop would not become: 64 comparisons as bits to branch on, eight sums side by side."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 64
"""Scores compared at a time."""
ROWS = 8
"""Sums made at a time, of vectors as wide."""


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


def _data(context: Any, builder: Any, kind: Any, array: Any) -> tuple[Any, Any]:
    """Return the pointer to an array's values and its last extent."""
    view = context.make_array(kind)(context, builder, array)
    return view.data, builder.extract_value(view.shape, kind.ndim - 1)


def _load(builder: Any, data: Any, at: Any, element: Any, align: int) -> Any:
    pointer = builder.bitcast(builder.gep(data, [at]), ir.VectorType(element, ROWS).as_pointer())
    return builder.load(pointer, align=align)


def _halved(builder: Any, left: Any, right: Any, width: int) -> Any:
    """Return the parts of 2 x ``width`` values in both vectors, each folded to ``width`` sums, one after another."""
    low = [start + j for start in range(0, 2 * ROWS, 2 * width) for j in range(width)]
    kind = ir.VectorType(ir.IntType(32), ROWS)
    first = builder.shuffle_vector(left, right, ir.Constant(kind, low))
    second = builder.shuffle_vector(left, right, ir.Constant(kind, [j + width for j in low]))
    return builder.fadd(first, second)


def _eight_sums(context: Any, builder: Any, table: Any, first: Any, other: Any, out: Any, at: Any) -> None:
    """Emit ``out[at + j] = sum_d table[first + j, d] other[d]`` for eight j; without ``other``, of squares.

    ``table``, ``other``, ``out``: (numba type, value). Eight vectors of partial sums fold into one vector of sums,
    which costs less than to fold each into a number.
    """
    element, align = context.get_data_type(table[0].dtype), table[0].dtype.bitwidth // 8
    rows, dim = _data(context, builder, *table)
    zero = ir.Constant(ir.VectorType(element, ROWS), [0.0] * ROWS)
    slot: Any = cgutils.alloca_once_value
    sums = [slot(builder, zero) for _ in range(ROWS)]
    starts = [builder.mul(builder.add(first, ir.Constant(first.type, j)), dim) for j in range(ROWS)]
    step = ir.Constant(dim.type, ROWS)
    with cgutils.for_range_slice(builder, ir.Constant(dim.type, 0), dim, step, dim.type) as (d, _):
        factor = None if other is None else _load(builder, _data(context, builder, *other)[0], d, element, align)
        for place, start in zip(sums, starts, strict=True):
            row = _load(builder, rows, builder.add(start, d), element, align)
            product = builder.fmul(row, row if factor is None else factor, flags=("contract",))
            builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)
    parts, width = [builder.load(place) for place in sums], ROWS // 2
    while width:
        parts = [_halved(builder, parts[i], parts[i + 1], width) for i in range(0, len(parts), 2)]
        width //= 2
    target = builder.gep(_data(context, builder, *out)[0], [at])
    builder.store(parts[0], builder.bitcast(target, ir.VectorType(element, ROWS).as_pointer()), align=align)


def _eight_products(_: Any, table: Any, first: Any, other: Any, out: Any, at: Any) -> Any:
    """Write ``out[at + j] = sum_d table[first + j, d] other[d]`` for j < 8, summed in any order.

    All contiguous, of one dtype; the width of the table is a multiple of 8.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        _eight_sums(
            context, builder, (kinds[0], args[0]), args[1], (kinds[2], args[2]), (kinds[3], args[3]), args[4]
        )  # fmt: skip
        return context.get_dummy_value()

    return types.void(table, types.intp, other, out, types.intp), generate


def _eight_squares(_: Any, table: Any, first: Any, out: Any, at: Any) -> Any:
    """Write ``out[at + j] = sum_d table[first + j, d] ** 2`` for j < 8; as :func:`_eight_products`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        _eight_sums(context, builder, (kinds[0], args[0]), args[1], None, (kinds[2], args[2]), args[3])
        return context.get_dummy_value()

    return types.void(table, types.intp, out, types.intp), generate


above: Any = intrinsic(_above)
eight_products: Any = intrinsic(_eight_products)
eight_squares: Any = intrinsic(_eight_squares)
not_below: Any = intrinsic(_not_below)
first_bit: Any = intrinsic(_first_bit)
