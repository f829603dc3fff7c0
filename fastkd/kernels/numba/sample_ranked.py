"""Rank-decay sampling without replacement on the CPU: bit for bit the draws of the reference.

The definition is in ``fastkd/kernels/reference/sample_ranked.py``. Memory: one list of times per thread.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log import log
from fastkd.kernels.numba._select import select_smallest
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, uniform_open, word, words_of

Ints = NDArray[np.int64]


def sample_ranked(users: Ints, lengths: Ints, n: int, temperature: float, key: int) -> Ints:
    """Return Int64[B, n] ascending positions, -1 at the end; see :func:`fastkd.ops.sample_ranked`."""
    out = np.full((len(users), n), -1, dtype=np.int64)
    longest = int(lengths.max(initial=0))
    if n and longest:
        low, high = words_of(key)
        run_rows(_sample_rows, len(users), 20.0 * longest, users, lengths, temperature, low, high, longest, out)
    return out


@jit()
def _sample_rows(
    users: Ints, lengths: Ints, temperature: float, k0: np.uint64, k1: np.uint64, longest: int, out: Ints,
    start: int, stop: int,
) -> None:  # fmt: skip
    n = out.shape[1]
    times = np.empty(longest + 3)
    for b in range(start, stop):
        length, user = lengths[b], users[b]
        for block in range((length + 3) // 4):
            w0, w1, w2, w3 = philox4x32(word(block), word(user), high_word(user), word(0), k0, k1)
            r = 4 * block
            times[r] = uniform_open(w0)
            times[r + 1] = uniform_open(w1)
            times[r + 2] = uniform_open(w2)
            times[r + 3] = uniform_open(w3)
        for r in range(length):
            times[r] = (r + 1.0) / temperature + log(-log(times[r]))
        _write_smallest(times[:length], out[b], min(n, length))


@jit()
def _write_smallest(times: NDArray[np.float64], out: Ints, n: int) -> None:
    """Write the positions of the ``n`` smallest times in ascending order; of equal times the first."""
    if n == 0:
        return
    last = select_smallest(times.copy(), len(times), n)
    ties = n
    for time in times:
        if time < last:
            ties -= 1
    count = 0
    for r in range(len(times)):
        if times[r] < last:
            out[count] = r
            count += 1
        elif times[r] == last and ties > 0:
            out[count] = r
            count += 1
            ties -= 1
