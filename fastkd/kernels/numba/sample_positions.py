"""Positions drawn with replacement by a law over ranks, on the CPU: bit for bit the draws of the reference."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log import log
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, uniform_double, word, words_of

Ints = NDArray[np.int64]


def sample_positions(users: Tensor, lengths: Tensor, n: int, law: str, decay: float, key: int) -> Tensor:
    """Return Int64[B, n], -1 where the list is empty; see :func:`fastkd.ops.sample_positions`."""
    out = np.full((len(users), n), -1, dtype=np.int64)
    if n:
        code = ("uniform", "linear", "exponential").index(law)
        arguments = (users.numpy(), lengths.numpy(), code, decay, math.expm1(-decay), *words_of(key), out)
        run_rows(_draw_rows, len(users), 5.0 * n, *arguments)
    return torch.from_numpy(out)


@jit()
def _draw_rows(
    users: Ints, lengths: Ints, law: int, decay: float, below: float, k0: np.uint64, k1: np.uint64, out: Ints,
    start: int, stop: int,
) -> None:  # fmt: skip
    for b in range(start, stop):
        user, length = users[b], lengths[b]
        if length <= 0:
            continue
        m = np.float64(length)
        for slot in range(out.shape[1]):
            w0, w1, w2, w3 = philox4x32(word(slot), word(user), high_word(user), word(0), k0, k1)
            first = uniform_double(w0, w1)
            drawn = np.floor(first * m)
            if law == 1:
                drawn = min(drawn, np.floor(uniform_double(w2, w3) * m))
            elif law == 2:
                drawn = np.ceil(-m / decay * log(1.0 + first * below)) - 1.0
            out[b, slot] = np.int64(min(max(drawn, 0.0), m - 1.0))
