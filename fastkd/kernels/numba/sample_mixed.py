"""A share of uniform negatives, the rest by mass, on the CPU by numba: bit for bit the draws of the C++ sampler.

The definition is in ``fastkd/kernels/reference/sample_mixed.py``. Used where ``fastkd._native`` is not built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._sampler_rows import block_words, list_left, scale, unmark
from fastkd.kernels.numba.sample_popularity import PopularitySampler, mass_left, rank_table, weighted

_FULL = 2**32


class MixedSampler(PopularitySampler):
    """A share of uniform draws, the rest in proportion to ``masses``; with replacement."""

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int, masses: NDArray[np.uint64],
        share: int, threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(indptr, indices, num_items, masses, threads)
        self.share = share

    def draw_rows(
        self, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any, replacement: bool
    ) -> int:
        """Fill ``out[offsets[r]:offsets[r + 1]]`` for each row; return the first that could not be filled, or -1."""
        assert replacement
        return int(
            _draw_rows(
                self.indptr, self.indices, users, firsts, offsets, key, out, log_prob, extra, self.share, self.kept,
                self.alias, self.before,
            )
        )  # fmt: skip


@jit()
def _uniform(user: Any, slot: int, words: Any, key: Any, taken: Any, free: Any, ranked: bool) -> Any:
    bound = np.uint64(len(free)) if ranked else np.uint64(len(taken))
    attempt = 0
    while True:
        value, even = scale(words[1], bound)
        if even and ranked:
            return free[np.int64(value)]
        if even and not taken[np.int64(value)]:
            return np.int64(value)
        attempt += 1
        words = block_words(user, slot, attempt, key)


@jit()
def _draw_row(
    user: Any, first: int, key: Any, out: Any, log_prob: Any, taken: Any, left: Any, share: int, tables: Any
) -> int:
    before = tables[2]
    count = 0
    for item in range(len(taken)):
        count += 0 if taken[item] else 1
    if left == np.uint64(0):
        share = _FULL if share > 0 else 0
    if count == 0 or (left == np.uint64(0) and share == 0):
        return 0
    ranked = 2 * count < len(taken)
    free = list_left(taken, count) if ranked else np.empty(0, dtype=np.int64)
    whole = left >= before[-1] - left
    starts, removed = np.empty(0, dtype=np.uint64), np.zeros(1, dtype=np.uint64)
    if not whole:
        starts, removed = rank_table(before, taken)
    even = np.float64(share) / np.float64(_FULL)
    for j in range(len(out)):
        slot = first + j
        words = block_words(user, slot, 0, key)
        found: Any = np.int64(-1)
        if np.int64(words[0]) < share:
            found = _uniform(user, slot, words, key, taken, free, ranked)
        attempt = 0
        while found < 0 or taken[found]:
            found = weighted(words[1], words[2], whole, left, tables, starts, removed)
            attempt += 1
            words = block_words(user, slot, attempt, key)
        out[j] = found
        if len(log_prob) > 0:
            heavy = 0.0
            if left > np.uint64(0):
                heavy = (1.0 - even) * (np.float64(before[found + 1] - before[found]) / np.float64(left))
            log_prob[j] = np.log(even / np.float64(count) + heavy)
    return len(out)


@jit()
def _draw_rows(
    indptr: Any, indices: Any, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any,
    share: int, kept: Any, alias: Any, before: Any,
) -> int:  # fmt: skip
    taken = np.zeros(len(kept), dtype=np.bool_)
    short = -1
    for row in range(len(users)):
        user, begin, end = users[row], offsets[row], offsets[row + 1]
        if begin == end:
            continue
        history = indices[indptr[user] : indptr[user + 1]]
        left = mass_left(before, history, extra[row], taken)
        logs = log_prob[begin:end]
        filled = _draw_row(
            np.uint64(user), firsts[row], key, out[begin:end], logs, taken, left, share, (kept, alias, before)
        )
        out[begin + filled : end] = -1
        logs[filled:] = -np.inf
        if filled < end - begin and short < 0:
            short = row
        unmark(taken, history, extra[row], out[:0])
    return short
