"""Gumbel noise on the CPU: bit for bit the draws of the reference."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log import log
from fastkd.kernels.numba._row_words import draw_row, room_for, whole
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import uniform_open, words_of

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
    parts, words = room_for(columns)
    noise = np.empty(whole(columns), np.float32)
    for r in range(start, stop):
        draw_row(rows[r], columns, k0, k1, parts, words)
        for j in range(len(noise)):
            noise[j] = -log(-log(uniform_open(words[j])))
        for j in range(columns):
            out[r, j] = noise[j]
