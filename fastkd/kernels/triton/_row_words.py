"""A Philox word for each column of a row: ``fastkd.kernels.reference._random.row_words`` for kernels.

A program owns ROWS rows and BLOCK counters of each, so four stretches of columns a row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton.philox import key_words, philox4x32, user_words


def sizes(columns: int, counters: int) -> dict[str, int]:
    """Return ROWS and BLOCK of a program that draws at most ``counters`` blocks."""
    block = min(triton.next_power_of_2(triton.cdiv(columns, 4)), counters)
    return {"ROWS": counters // block, "BLOCK": block}


def grid(rows: int, columns: int, shape: dict[str, int]) -> tuple[int]:
    """Return the programs of ``rows`` x ``columns``; one axis, since a second one ends at 65,535."""
    return (triton.cdiv(rows, shape["ROWS"]) * triton.cdiv(triton.cdiv(columns, 4), shape["BLOCK"]),)


@triton.jit
def owned(columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Return this program's rows [ROWS] and counters [BLOCK], int64, and how many counters a row has."""
    program, counters = tl.program_id(0).to(tl.int64), (columns + 3) // 4
    across = (counters + BLOCK - 1) // BLOCK
    r = program // across * ROWS + tl.arange(0, ROWS)
    return r, program % across * BLOCK + tl.arange(0, BLOCK), counters


@triton.jit
def draw(rows, key, r, c, R, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the four words [ROWS, BLOCK] of counters ``c`` of the ids at ``rows + r``."""
    k0, k1 = key_words(key)
    low, high = user_words(tl.load(rows + r, r < R, other=0))
    none = tl.zeros([ROWS, BLOCK], tl.uint32)
    return philox4x32(none + c[None, :].to(tl.uint32), none + low[:, None], none + high[:, None], none, k0, k1)


@triton.jit
def place(r, c, counters, k, R, columns):
    """Return where word ``k`` belongs in a table [R, columns], and whether it does, both [ROWS, BLOCK]."""
    column = k * counters + c
    live = (r < R)[:, None] & ((c < counters) & (column < columns))[None, :]
    return r[:, None] * columns + column[None, :], live
