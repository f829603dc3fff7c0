"""Weighted draws without replacement from short lists on the CPU: bit for bit the draws of the reference.

The definition is in ``fastkd/kernels/reference/sample_weighted.py``. Memory: one list of times per thread.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log import log
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, uniform_open, word, words_of
from fastkd.kernels.numba.sample_ranked import _write_smallest

Ints = NDArray[np.int64]


def sample_weighted(users: Tensor, log_weights: Tensor, n: int, in_order: bool, key: int) -> Tensor:
    """Return Int64[B, n] positions, ascending or ``in_order`` of the draws; see :func:`fastkd.ops.sample_weighted`."""
    length = log_weights.shape[1]
    out = np.full((len(users), n), -1, dtype=np.int64)
    if n and length:
        low, high = words_of(key)
        # float32 and float64 alike become float64 in the kernel, exactly.
        arguments = (users.numpy(), log_weights.numpy(), in_order, low, high, out)
        run_rows(_sample_rows, len(users), 20.0 * length, *arguments)
    return torch.from_numpy(out)


@jit()
def _sample_rows(
    users: Ints, weights: NDArray[np.float64], in_order: bool, k0: np.uint64, k1: np.uint64, out: Ints,
    start: int, stop: int,
) -> None:  # fmt: skip
    n, length = out.shape[1], weights.shape[1]
    times = np.empty(length + 3)
    for b in range(start, stop):
        user = users[b]
        for block in range((length + 3) // 4):
            w0, w1, w2, w3 = philox4x32(word(block), word(user), high_word(user), word(0), k0, k1)
            r = 4 * block
            times[r] = uniform_open(w0)
            times[r + 1] = uniform_open(w1)
            times[r + 2] = uniform_open(w2)
            times[r + 3] = uniform_open(w3)
        possible = 0
        for r in range(length):
            times[r] = log(-log(times[r])) - np.float64(weights[b, r])
            possible += times[r] < np.inf
        found = min(n, possible)
        _write_smallest(times[:length], out[b], found)
        if in_order:
            # Stable, so of equal times the first comes first.
            out[b, :found] = out[b, :found][np.argsort(times[out[b, :found]], kind="mergesort")]
