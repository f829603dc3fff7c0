"""Dropout on the CPU: bit for bit the draws of the reference.

The words of a row are laid out as its columns are, so that drawing and choosing are both loops of vector code. Up to
four columns take one block a row; there the loop runs over rows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, word, words_of

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_TILE = 256
"""Rows whose words are drawn at a time where a row has one block."""


def dropout(x: Tensor, rows: Tensor, below: int, scale: float, key: int) -> Tensor:
    """Return ``x * scale`` where kept, else 0; see :func:`fastkd.ops.dropout`."""
    numbers = x.detach().contiguous()
    if x.dtype in (torch.float16, torch.bfloat16):
        numbers = numbers.float()
    values = numbers.numpy()
    out = new(values.shape, numbers.dtype)
    if out.size:
        kernel = _narrow_rows if values.shape[1] <= 4 else _rows
        arguments = (values, rows.contiguous().numpy(), np.uint64(below), values.dtype.type(scale), *words_of(key), out)
        run_rows(kernel, len(values), 0.7 * values.shape[1] + 5.0, *arguments)
    return torch.from_numpy(out).to(x.dtype)


@jit()
def _rows(
    x: Floats, rows: Ints, below: np.uint64, scale: float, k0: np.uint64, k1: np.uint64, out: Floats,
    start: int, stop: int,
) -> None:  # fmt: skip
    width = x.shape[1]
    blocks = (width + 3) // 4
    words = np.empty(4 * blocks, np.uint64)
    zero, zeros = np.uint64(0), x.dtype.type(0)
    for r in range(start, stop):
        low, high = word(rows[r]), high_word(rows[r])
        for c in range(blocks):
            w0, w1, w2, w3 = philox4x32(np.uint64(c), low, high, zero, k0, k1)
            words[c] = w0
            words[blocks + c] = w1
            words[2 * blocks + c] = w2
            words[3 * blocks + c] = w3
        for j in range(width):
            out[r, j] = x[r, j] * scale if words[j] < below else zeros


@jit()
def _narrow_rows(
    x: Floats, rows: Ints, below: np.uint64, scale: float, k0: np.uint64, k1: np.uint64, out: Floats,
    start: int, stop: int,
) -> None:  # fmt: skip
    width = x.shape[1]
    words = np.empty((4, _TILE), np.uint64)
    zero, zeros = np.uint64(0), x.dtype.type(0)
    for first in range(start, stop, _TILE):
        count = min(_TILE, stop - first)
        for t in range(count):
            row = rows[first + t]
            w0, w1, w2, w3 = philox4x32(zero, word(row), high_word(row), zero, k0, k1)
            words[0, t] = w0
            words[1, t] = w1
            words[2, t] = w2
            words[3, t] = w3
        for t in range(count):
            for j in range(width):
                out[first + t, j] = x[first + t, j] * scale if words[j, t] < below else zeros
