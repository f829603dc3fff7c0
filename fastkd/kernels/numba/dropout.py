"""Dropout on the CPU: bit for bit the draws of the reference.

Words are laid out as columns are, so that drawing and choosing are both loops of vector code. Where a row has few
blocks, the drawing loop runs over rows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._row_words import draw_row, room_for
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, word, words_of

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_NARROW = 16
"""Columns below which the drawing loop runs over rows."""
_TILE = 1 << 13
"""Values whose words are held at a time then."""


def dropout(x: Tensor, rows: Tensor, below: int, scale: float, key: int) -> Tensor:
    """Return ``x * scale`` where kept, else 0; see :func:`fastkd.ops.dropout`."""
    numbers = x.detach().contiguous()
    if x.dtype in (torch.float16, torch.bfloat16):
        numbers = numbers.float()
    values = numbers.numpy()
    out = new(values.shape, numbers.dtype)
    if out.size:
        kernel = _narrow_rows if values.shape[1] < _NARROW else _wide_rows
        last, factor = np.uint32(below - 1), values.dtype.type(scale)
        arguments = (values, rows.contiguous().numpy(), last, factor, *words_of(key), out)
        run_rows(kernel, len(values), 0.7 * values.shape[1] + 2.0, *arguments)
    return torch.from_numpy(out).to(x.dtype)


@jit()
def _wide_rows(
    x: Floats, rows: Ints, last: np.uint32, scale: float, k0: np.uint64, k1: np.uint64, out: Floats,
    start: int, stop: int,
) -> None:  # fmt: skip
    width, nothing = x.shape[1], x.dtype.type(0)
    parts, words = room_for(width)
    for r in range(start, stop):
        draw_row(rows[r], width, k0, k1, parts, words)
        for j in range(width):
            out[r, j] = x[r, j] * scale if words[j] <= last else nothing


@jit()
def _narrow_rows(
    x: Floats, rows: Ints, last: np.uint32, scale: float, k0: np.uint64, k1: np.uint64, out: Floats,
    start: int, stop: int,
) -> None:  # fmt: skip
    width = x.shape[1]
    blocks, tile = (width + 3) // 4, _TILE // width
    words = np.empty((4 * blocks, tile), np.uint32)
    zero, nothing = np.uint64(0), x.dtype.type(0)
    for first in range(start, stop, tile):
        count = min(tile, stop - first)
        ids = rows[first : first + count]
        for c in range(blocks):
            for t in range(count):
                row = ids[t]
                w0, w1, w2, w3 = philox4x32(np.uint64(c), word(row), high_word(row), zero, k0, k1)
                words[c, t] = w0
                words[blocks + c, t] = w1
                words[2 * blocks + c, t] = w2
                words[3 * blocks + c, t] = w3
        for t in range(count):
            for j in range(width):
                out[first + t, j] = x[first + t, j] * scale if words[j, t] <= last else nothing
