"""Gumbel noise on the CPU: bit for bit the draws of the reference."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log import log
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, uniform_open, word, words_of

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def gumbel(rows: Tensor, columns: int, key: int) -> Tensor:
    """Return Float32[n, E]; see :func:`fastkd.ops.gumbel`."""
    out = new((len(rows), columns), torch.float32)
    if out.size:
        run_rows(_draw_rows, len(rows), 4.0 * columns + 20.0, rows.contiguous().numpy(), *words_of(key), out)
    return torch.from_numpy(out)


@jit()
def _draw_rows(rows: Ints, k0: np.uint64, k1: np.uint64, out: Floats, start: int, stop: int) -> None:
    columns = out.shape[1]
    blocks = (columns + 3) // 4
    # Whole registers: what is drawn past the last block is written over by the next stretch, or behind the columns.
    drawn, made = (blocks + 15) // 16 * 16, (columns + 15) // 16 * 16
    parts, words = np.empty((4, drawn), np.uint32), np.zeros(3 * blocks + drawn + 16, np.uint32)
    noise = np.empty(made, np.float32)
    zero = np.uint64(0)
    for r in range(start, stop):
        low, high = word(rows[r]), high_word(rows[r])
        for c in range(drawn):
            w0, w1, w2, w3 = philox4x32(np.uint64(c), low, high, zero, k0, k1)
            parts[0, c] = w0
            parts[1, c] = w1
            parts[2, c] = w2
            parts[3, c] = w3
        for k in range(4):
            for c in range(drawn):
                words[k * blocks + c] = parts[k, c]
        for j in range(made):
            noise[j] = -log(-log(uniform_open(words[j])))
        for j in range(columns):
            out[r, j] = noise[j]
