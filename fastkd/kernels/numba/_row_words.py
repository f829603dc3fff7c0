"""A Philox word for each column of a row: ``fastkd.kernels.reference._random.row_words`` for kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba.philox import high_word, philox4x32, word

Words = NDArray[np.uint32]

LANES = 16
"""Columns of a register: loops over whole ones are vector code."""


@jit(inline="always")
def whole(count: int) -> int:
    """Return ``count`` up to the next whole register."""
    return (count + LANES - 1) // LANES * LANES


@jit(inline="always")
def room_for(columns: int) -> tuple[Words, Words]:
    """Return what :func:`draw_row` needs: four stretches of words, and the words of a row, whole registers of them."""
    blocks = (columns + 3) // 4
    return np.empty((4, whole(blocks)), np.uint32), np.zeros(3 * blocks + whole(blocks) + LANES, np.uint32)


@jit(inline="always")
def draw_row(row: int, columns: int, k0: np.uint64, k1: np.uint64, parts: Words, words: Words) -> None:
    """Write the words of ``row`` to ``words[:columns]``; what lies behind is of no meaning."""
    blocks, zero = (columns + 3) // 4, np.uint64(0)
    drawn = whole(blocks)  # and not a shape: the compiler sees that no loop has a rest
    low, high = word(row), high_word(row)
    for c in range(drawn):
        w0, w1, w2, w3 = philox4x32(np.uint64(c), low, high, zero, k0, k1)
        parts[0, c] = w0
        parts[1, c] = w1
        parts[2, c] = w2
        parts[3, c] = w3
    # What was drawn past the last block is written over by the next stretch, or lies behind the columns.
    for k in range(4):
        for c in range(drawn):
            words[k * blocks + c] = parts[k, c]
