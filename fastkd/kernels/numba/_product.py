"""Products of float32 vectors in 512-bit registers, which BLAS leaves half empty on some processors.

The BLAS inside torch reaches less than half of what an AMD processor with such registers can do. Here six users meet
64 items at a time, their 384 sums in registers while all dimensions go by, in order: ``out[b, i]`` is one chain of
fused additions, whatever the sizes. Where the processor has no such registers, and in float64, torch multiplies.

Both sides are laid out first: users in groups of six, ``packed[g, d, m]``, once for many products; items in panels of
64, ``panel[d, j]``, as they are met. Shapes: B users, N items, D dimensions, G = B / 6 rounded up.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]

GROUP = 6
"""Users of a block: 6 x 4 vectors of sums, 4 of items and one of a user fill 29 of 32 registers."""
PANEL = 64
"""Items of a block."""
LANES = 16
_VECTORS = PANEL // LANES
ROW = ir.VectorType(ir.FloatType(), LANES)
_PLACES = ir.VectorType(ir.IntType(32), LANES)


class Users(NamedTuple):
    """Users ready for products: their vectors, and the same laid out in groups, or None where torch multiplies."""

    vectors: Tensor
    packed: Floats | None


def ready(users: Tensor) -> Users:
    """Return ``users`` [B, D], contiguous, ready for :func:`multiply`."""
    return Users(users, pack_users(users) if multiplies(users.dtype) else None)


def multiply(users: Users, items: Tensor, out: Tensor) -> None:
    """Write ``out[b, i] = <users[b], items[i]>``; ``items`` [N, D] contiguous, ``out`` [B, N] with contiguous rows."""
    if users.packed is None:
        torch.mm(users.vectors, items.t(), out=out)
    else:
        write_products(users.packed, items.numpy(), out.numpy())


def multiplies(dtype: torch.dtype) -> bool:
    """Return whether products of ``dtype`` are made here."""
    return dtype == torch.float32 and has_wide_registers()


@functools.cache
def has_wide_registers() -> bool:
    """Return whether kernels are compiled for a processor with 512-bit registers."""
    config: Any = numba.config
    return not (config.CPU_NAME or config.CPU_FEATURES) and bool(llvm.get_host_cpu_features().get("avx512f", False))


def pack_users(users: Tensor) -> Floats:
    """Return Float32[G, D, 6], the last group filled up with zeros, from float32 [B, D]."""
    count, dim = users.shape
    groups = -(-count // GROUP)
    # torch's memory begins at a cache line; numpy's need not.
    packed = torch.zeros(groups * GROUP, dim, dtype=torch.float32, device="cpu")
    packed[:count] = users
    return packed.view(groups, GROUP, dim).transpose(1, 2).contiguous().numpy()


def new_panel(dim: int) -> Floats:
    """Return memory for a panel of items."""
    panel: Floats = torch.empty(dim, PANEL, dtype=torch.float32, device="cpu").numpy()
    return panel


def constant(value: int) -> Any:
    """Return a 64-bit integer for generated code."""
    return ir.Constant(ir.IntType(64), value)


def vector_at(builder: Any, data: Any, place: Any) -> Any:
    """Return the address of the 16 numbers from ``data + place`` on."""
    return builder.bitcast(builder.gep(data, [place]), ROW.as_pointer())


def everywhere(builder: Any, number: Any) -> Any:
    """Return a vector of 16 times ``number``."""
    empty = ir.Constant(ROW, ir.Undefined)
    first = builder.insert_element(empty, number, ir.IntType(32)(0))
    return builder.shuffle_vector(first, empty, ir.Constant(_PLACES, [0] * LANES))


def _sums(builder: Any, packed: Any, panel: Any, start: Any, dim: Any) -> list[list[Any]]:
    """Emit the products of the group at ``packed + start`` and a panel; return 6 x 4 vectors of them."""
    slot: Any = cgutils.alloca_once_value
    sums = [[slot(builder, ir.Constant(ROW, [0.0] * LANES)) for _ in range(_VECTORS)] for _ in range(GROUP)]
    group = builder.gep(packed, [start])
    with cgutils.for_range_slice(builder, constant(0), dim, constant(1), dim.type) as (d, _):
        users, items = builder.mul(d, constant(GROUP)), builder.mul(d, constant(PANEL))
        parts = [builder.load(vector_at(builder, panel, builder.add(items, constant(n * LANES))), align=4)
                 for n in range(_VECTORS)]  # fmt: skip
        for m, row in enumerate(sums):
            number = everywhere(builder, builder.load(builder.gep(group, [builder.add(users, constant(m))])))
            for place, part in zip(row, parts, strict=True):
                product = builder.fmul(number, part, flags=("contract",))
                builder.store(builder.fadd(builder.load(place), product, flags=("contract",)), place)
    return [[builder.load(place) for place in row] for row in sums]


def pointers(context: Any, builder: Any, signature: Any, args: Any) -> list[Any]:
    """Return the arguments, arrays as pointers to their first value."""
    return [context.make_array(kind)(context, builder, arg).data if isinstance(kind, types.Array) else arg
            for kind, arg in zip(signature.args, args, strict=True)]  # fmt: skip


def _multiply_block(_: Any, packed: Any, start: Any, panel: Any, dim: Any, out: Any, at: Any, across: Any) -> Any:
    """Write ``out[at + m * across + j]``, the products of six users and a panel."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        users, first, items, width, target, place, step = pointers(context, builder, signature, args)
        for m, row in enumerate(_sums(builder, users, items, first, width)):
            begin = builder.add(place, builder.mul(step, constant(m)))
            for n, part in enumerate(row):
                builder.store(part, vector_at(builder, target, builder.add(begin, constant(n * LANES))), align=4)
        return context.get_dummy_value()

    return types.void(packed, types.intp, panel, types.intp, out, types.intp, types.intp), generate


def _block_above(
    _: Any, packed: Any, start: Any, panel: Any, dim: Any, bias: Any, item: Any, lines: Any, user: Any, out: Any,
    hits: Any,
) -> Any:  # fmt: skip
    """Return whether one of the products of six users and a panel is above the user's line; NaN is not.

    The lines are ``lines[user + m]``. If so, ``out`` Float32[6, 64] are the products and bit j of ``hits[m]`` says
    where; if not, nothing is written. ``bias[item + j]`` is added first; an empty bias is none.
    """
    biased = isinstance(bias, types.Array)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        users, first, items, width, shift, at, limits, mine, target, bits = pointers(context, builder, signature, args)
        sums = _sums(builder, users, items, first, width)
        if biased:
            more = [builder.load(vector_at(builder, shift, builder.add(at, constant(n * LANES))), align=4)
                    for n in range(_VECTORS)]  # fmt: skip
            sums = [[builder.fadd(part, add) for part, add in zip(row, more, strict=True)] for row in sums]
        found, word = [], ir.IntType(64)
        for m, row in enumerate(sums):
            line = everywhere(builder, builder.load(builder.gep(limits, [builder.add(mine, constant(m))])))
            mask = constant(0)
            for n, part in enumerate(row):
                passing = builder.bitcast(builder.fcmp_ordered(">", part, line), ir.IntType(LANES))
                mask = builder.or_(mask, builder.shl(builder.zext(passing, word), constant(n * LANES)))
            found.append(mask)
        some = functools.reduce(builder.or_, found)
        any_passes = builder.icmp_unsigned("!=", some, constant(0))
        with builder.if_then(any_passes, likely=False):
            for m, (row, mask) in enumerate(zip(sums, found, strict=True)):
                builder.store(mask, builder.gep(bits, [constant(m)]))
                for n, part in enumerate(row):
                    builder.store(part, vector_at(builder, target, constant(m * PANEL + n * LANES)), align=4)
        return any_passes

    kinds = packed, types.intp, panel, types.intp, bias, types.intp, lines, types.intp, out, hits
    return types.boolean(*kinds), generate


def _turn(_: Any, table: Any, at: Any, across: Any, panel: Any, place: Any) -> Any:
    """Write ``panel[place + 64 d + i] = table[at + across * i + d]`` for 16 items i and 16 dimensions d."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, first, step, target, begin = pointers(context, builder, signature, args)
        rows = [builder.load(vector_at(builder, source, builder.add(first, builder.mul(step, constant(i)))), align=4)
                for i in range(LANES)]  # fmt: skip
        half = 1
        while half < LANES:  # swap one bit of the row with the same bit of the column
            low = [c if not c & half else LANES + (c ^ half) for c in range(LANES)]
            high = [c ^ half if not c & half else LANES + c for c in range(LANES)]
            turned = list(rows)
            for i in range(LANES):
                if not i & half:
                    pair = rows[i], rows[i | half]
                    turned[i] = builder.shuffle_vector(*pair, ir.Constant(_PLACES, low))
                    turned[i | half] = builder.shuffle_vector(*pair, ir.Constant(_PLACES, high))
            rows, half = turned, 2 * half
        for d, row in enumerate(rows):
            builder.store(row, vector_at(builder, target, builder.add(begin, constant(d * PANEL))), align=4)
        return context.get_dummy_value()

    return types.void(table, types.intp, types.intp, panel, types.intp), generate


multiply_block: Any = intrinsic(_multiply_block)
block_above: Any = intrinsic(_block_above)
_turn_block: Any = intrinsic(_turn)


@jit()
def pack_panel(items: Floats, first: int, panel: Floats) -> None:
    """Lay the items from ``first`` on out in ``panel`` Float32[D, 64]; places past the last one get zeros."""
    dim = items.shape[1]
    have, done = min(PANEL, len(items) - first), 0
    if have == PANEL:
        while done + LANES <= dim:
            for start in range(0, PANEL, LANES):
                _turn_block(items, (first + start) * dim + done, dim, panel, done * PANEL + start)
            done += LANES
    for d in range(done, dim):
        for j in range(have):
            panel[d, j] = items[first + j, d]
        for j in range(have, PANEL):
            panel[d, j] = 0


@jit()
def write_products(packed: Floats, items: Floats, out: Floats) -> None:
    """Write the products of all users and items, a panel after another."""
    count, width = out.shape
    dim, across = items.shape[1], out.strides[0] // out.itemsize
    panel, spare = np.empty((dim, PANEL), dtype=np.float32), np.empty((GROUP, PANEL), dtype=np.float32)
    for first in range(0, width, PANEL):
        pack_panel(items, first, panel)
        have = min(PANEL, width - first)
        for g in range(len(packed)):
            start = g * GROUP
            if have == PANEL and start + GROUP <= count:
                multiply_block(packed, start * dim, panel, dim, out, start * across + first, across)
                continue
            multiply_block(packed, start * dim, panel, dim, spare, 0, PANEL)
            for m in range(min(GROUP, count - start)):
                for j in range(have):
                    out[start + m, first + j] = spare[m, j]


@jit()
def multiply_rows(users: Floats, items: Floats, out: Floats) -> None:
    """Write the products of users that are not laid out: for a call of little else."""
    count, dim = users.shape
    packed = np.zeros((-(-count // GROUP), dim, GROUP), dtype=np.float32)
    for b in range(count):
        for d in range(dim):
            packed[b // GROUP, d, b % GROUP] = users[b, d]
    write_products(packed, items, out)
