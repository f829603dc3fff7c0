"""Negatives by stratum of the catalogue on the CPU by numba: bit for bit the draws of the C++ sampler.

The definition is in ``fastkd/kernels/reference/sample_stratified.py``. Used where ``fastkd._native`` is not built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._sampler_rows import RowSampler, block_words, mark, scale, unmark

_FULL = 2**32


class StratifiedSampler(RowSampler):
    """Draws by stratum; ``stratum_of`` uint8[num_items], ``shares`` uint64[strata] that sum to 2**32."""

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int, stratum_of: NDArray[np.uint8],
        shares: NDArray[np.uint64],
    ) -> None:  # fmt: skip
        super().__init__(indptr, indices, num_items)
        self.stratum_of = stratum_of
        self.shares = shares.astype(np.int64)
        self.items = np.argsort(stratum_of, kind="stable")
        sizes = np.bincount(stratum_of, minlength=len(shares))
        self.begins = np.concatenate([[0], np.cumsum(sizes)])

    def draw_rows(
        self, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any, replacement: bool
    ) -> int:
        """Fill ``out[offsets[r]:offsets[r + 1]]`` for each row; return the first that could not be filled, or -1."""
        assert replacement
        return int(
            _draw_rows(
                self.indptr, self.indices, users, firsts, offsets, key, out, log_prob, extra, self.stratum_of,
                self.shares, self.items, self.begins,
            )
        )  # fmt: skip


@jit()
def _stratum(user: Any, slot: int, word: Any, key: Any, share_left: int, shares: Any, left_in: Any) -> int:
    coin = np.int64(word)
    if share_left < _FULL:
        attempt = 0
        value, even = scale(word, np.uint64(share_left))
        while not even:
            attempt += 1
            value, even = scale(block_words(user, slot, attempt, key)[0], np.uint64(share_left))
        coin = np.int64(value)
    for s in range(len(shares)):
        if left_in[s] > 0:
            if coin < shares[s]:
                return s
            coin -= shares[s]
    return -1


@jit()
def _within(user: Any, slot: int, word: Any, key: Any, items: Any, left: int, taken: Any) -> Any:
    rejecting = 2 * (len(items) - left) <= len(items)
    bound = np.uint64(len(items) if rejecting else left)
    attempt = 0
    while True:
        value, even = scale(word, bound)
        if even and rejecting and not taken[items[np.int64(value)]]:
            return items[np.int64(value)]
        if even and not rejecting:
            rank = np.int64(value)
            for item in items:
                if not taken[item]:
                    if rank == 0:
                        return item
                    rank -= 1
        attempt += 1
        word = block_words(user, slot, attempt, key)[1]


@jit()
def _draw_rows(
    indptr: Any, indices: Any, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any,
    stratum_of: Any, shares: Any, items: Any, begins: Any,
) -> int:  # fmt: skip
    taken = np.zeros(len(stratum_of), dtype=np.bool_)
    left_in = np.empty(len(shares), dtype=np.int64)
    short = -1
    for row in range(len(users)):
        user, begin, end = users[row], offsets[row], offsets[row + 1]
        if begin == end:
            continue
        history = indices[indptr[user] : indptr[user + 1]]
        left_in[:] = begins[1:] - begins[:-1]
        for item in history:
            left_in[stratum_of[item]] -= 1
        mark(taken, history, extra[row, :0])
        for item in extra[row]:
            if item >= 0 and not taken[item]:
                taken[item] = True
                left_in[stratum_of[item]] -= 1
        share_left = 0
        for s in range(len(shares)):
            share_left += shares[s] if left_in[s] > 0 else 0
        if share_left == 0 and short < 0:
            short = row
        for j in range(begin, end):
            if share_left == 0:
                out[j] = -1
            else:
                slot = firsts[row] + j - begin
                words = block_words(np.uint64(user), slot, 0, key)
                s = _stratum(np.uint64(user), slot, words[0], key, share_left, shares, left_in)
                members = items[begins[s] : begins[s + 1]]
                out[j] = _within(np.uint64(user), slot, words[1], key, members, left_in[s], taken)
                if len(log_prob) > 0:
                    log_prob[j] = np.log(shares[s] / share_left) - np.log(np.float64(left_in[s]))
            if share_left == 0 and len(log_prob) > 0:
                log_prob[j] = -np.inf
        unmark(taken, history, extra[row], out[:0])
    return short
