"""What the numba samplers share: rows cut among threads, words of a slot, exact bounded integers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba.philox import high_word, philox4x32, word

WORK_PER_THREAD = 32768
NO_LOG_PROB = np.empty(0, dtype=np.float32)
"""Stands for log-probabilities that were not asked for."""

Part = Callable[[int, int], int]


class RowSampler:
    """The same face as ``fastkd._native.Sampler``; arrays are trusted."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        self.indptr, self.indices, self.num_items = indptr, indices, num_items

    def draw_rows(
        self, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any, replacement: bool
    ) -> int:
        """Fill ``out[offsets[r]:offsets[r + 1]]`` for each row; return the first that could not be filled, or -1."""
        raise NotImplementedError

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[Any],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
        first_slots: NDArray[np.int64] | None = None,
        log_prob: NDArray[np.float32] | None = None,
    ) -> int:
        """Fill ``out`` [B, n]; return the first row with fewer items left than slots, or -1."""
        rows, n = out.shape
        extra = np.empty((rows, 0), dtype=np.int64) if exclude_lists is None else exclude_lists
        firsts = np.zeros(rows, dtype=np.int64) if first_slots is None else first_slots
        logs = NO_LOG_PROB if log_prob is None else log_prob.reshape(-1)
        offsets = np.arange(rows + 1, dtype=np.int64) * n
        return self._run(users, firsts, offsets, key, out.reshape(-1), logs, extra, replacement, threads)

    def sample_epoch(
        self, key: int, out: NDArray[Any], threads: int = 1, indptr: NDArray[np.int64] | None = None
    ) -> int:
        """Fill ``out`` [nnz, n]; return the first user with no item left, or -1."""
        pointers = self.indptr if indptr is None else indptr
        rows = len(pointers) - 1
        extra = np.empty((rows, 0), dtype=np.int64)
        users, firsts = np.arange(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
        offsets = pointers * out.shape[1]
        return self._run(users, firsts, offsets, key, out.reshape(-1), NO_LOG_PROB, extra, True, threads)

    def _run(
        self, users: Any, firsts: Any, offsets: Any, key: int, out: Any, logs: Any, extra: Any, replacement: bool,
        threads: int,
    ) -> int:  # fmt: skip
        def part(begin: int, end: int) -> int:
            return self.draw_rows(
                users[begin:end], firsts[begin:end], offsets[begin : end + 1], np.uint64(key), out, logs,
                extra[begin:end], replacement,
            )  # fmt: skip

        rows = len(users)
        threads = max(1, min(threads, rows, (len(out) + extra.size) // WORK_PER_THREAD + 1))
        if threads == 1:
            return part(0, rows)
        # The compiled loop holds no GIL; rows are cut where the slots are evenly many.
        cuts = np.searchsorted(offsets, np.linspace(0, offsets[-1], threads + 1)[1:-1]).tolist()
        bounds = [0, *cuts, rows]
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(part, bounds[:-1], bounds[1:]))
        short = [begin + at for begin, at in zip(bounds, found, strict=False) if at >= 0]
        return short[0] if short else -1


@jit()
def block_words(user: Any, block: Any, attempt: int, key: Any) -> Any:
    """Return the four words of a block of a user at an attempt."""
    return philox4x32(word(user), high_word(user), word(block), word(attempt), word(key), high_word(key))


@jit()
def slot_words(user: Any, slot: Any, per_block: int, attempt: int, key: Any) -> Any:
    """Return the words of one slot: of 4, 2 or 1 slots that share a block; what it does not have is what follows."""
    a, b, c, d = block_words(user, slot // per_block, attempt, key)
    which = slot % per_block
    if per_block == 2 and which == 1:
        return c, d, d, d
    if per_block == 4 and which > 0:
        return (b, b, b, b) if which == 1 else (c, c, c, c) if which == 2 else (d, d, d, d)
    return a, b, c, d


@jit(inline="always")
def scale(drawn: Any, limit: Any) -> Any:
    """Return the value of a 32-bit word below ``limit``, and whether it is to be kept (Lemire)."""
    product = drawn * limit
    return product >> np.uint64(32), (product & np.uint64(0xFFFFFFFF)) >= np.uint64(0x100000000) % limit


@jit()
def scale_wide(low: Any, high: Any, limit: Any) -> Any:
    """Return the value of a 64-bit word, given by halves, below ``limit``, and whether it is to be kept."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    limit_low, limit_high = limit & mask, limit >> shift
    bottom = low * limit_low
    cross = high * limit_low + (bottom >> shift)
    other = low * limit_high + (cross & mask)
    value = high * limit_high + (cross >> shift) + (other >> shift)
    rest = ((other & mask) << shift) | (bottom & mask)
    return value, rest >= (np.uint64(0) - limit) % limit


@jit()
def mark(taken: Any, history: Any, extra: Any) -> int:
    """Mark what a row leaves out; return how many items that is."""
    seen = len(history)
    for item in history:
        taken[item] = True
    for item in extra:
        if item >= 0 and not taken[item]:
            taken[item] = True
            seen += 1
    return seen


@jit()
def unmark(taken: Any, history: Any, extra: Any, drawn: Any) -> None:
    """Undo :func:`mark`, and what was drawn since."""
    for item in history:
        taken[item] = False
    for item in extra:
        if item >= 0:
            taken[item] = False
    for item in drawn:
        taken[item] = False


@jit()
def list_left(taken: Any, count: int) -> Any:
    """Return the items not taken, ascending; there are ``count``."""
    left = np.empty(count, dtype=np.int64)
    at = 0
    for item in range(len(taken)):
        if not taken[item]:
            left[at] = item
            at += 1
    return left
