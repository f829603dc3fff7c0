"""Uniform negatives on the CPU by numba: bit for bit the draws of the C++ sampler.

The definition is in ``fastkd/kernels/reference/sample_unobserved.py``. Used where ``fastkd._native`` is not built.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba.philox import high_word, philox4x32, word

_WORK_PER_THREAD = 32768


class UniformSampler:
    """The same face as ``fastkd._native.UniformSampler``; arrays are trusted."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        self.indptr, self.indices, self.num_items = indptr, indices, num_items

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[np.int64],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
    ) -> int:
        """Fill ``out`` int64[B, n]; return the first row with fewer items left than slots, or -1."""
        rows, n = out.shape
        extra = np.empty((rows, 0), dtype=np.int64) if exclude_lists is None else exclude_lists
        offsets = np.arange(rows + 1, dtype=np.int64) * n
        return self._run(users, offsets, key, out.reshape(-1), extra, replacement, threads)

    def sample_epoch(self, key: int, out: NDArray[Any], threads: int = 1) -> int:
        """Fill ``out`` [nnz, n]; return the first user with no item left, or -1."""
        rows = len(self.indptr) - 1
        extra = np.empty((rows, 0), dtype=np.int64)
        users = np.arange(rows, dtype=np.int64)
        return self._run(users, self.indptr * out.shape[1], key, out.reshape(-1), extra, True, threads)

    def _run(
        self,
        users: NDArray[np.int64],
        offsets: NDArray[np.int64],
        key: int,
        out: NDArray[Any],
        extra: NDArray[Any],
        replacement: bool,
        threads: int,
    ) -> int:
        def part(begin: int, end: int) -> int:
            return int(
                _draw_rows(
                    self.indptr, self.indices, self.num_items, users[begin:end], offsets[begin : end + 1],
                    np.uint64(key), out, extra[begin:end], replacement,
                )
            )  # fmt: skip

        rows = len(users)
        threads = max(1, min(threads, rows, (len(out) + extra.size) // _WORK_PER_THREAD + 1))
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
def _words(user: Any, block: int, attempt: int, key: Any) -> Any:
    """Return the four words of slots ``4 * block .. 4 * block + 3`` at an attempt."""
    return philox4x32(word(user), high_word(user), word(block), word(attempt), word(key), high_word(key))


@jit()
def _below(words: Any, user: Any, key: Any, slot: int, bound: int, taken: Any, avoid: bool) -> Any:
    """Return the first acceptable value below ``bound`` of a slot; ``words`` are those of its block at attempt 0."""
    which = slot & 3
    limit = np.uint64(bound)
    rejected = np.uint64(0x100000000) % limit
    attempt = 0
    while True:
        if attempt > 0:
            words = _words(user, slot >> 2, attempt, key)
        drawn = words[0] if which == 0 else words[1] if which == 1 else words[2] if which == 2 else words[3]
        product = drawn * limit
        value = np.int64(product >> np.uint64(32))
        if (product & np.uint64(0xFFFFFFFF)) >= rejected and not (avoid and taken[value]):
            return value
        attempt += 1


@jit()
def _list_left(taken: Any, count: int) -> Any:
    """Return the items not taken, ascending; there are ``count``."""
    left = np.empty(count, dtype=np.int64)
    at = 0
    for item in range(len(taken)):
        if not taken[item]:
            left[at] = item
            at += 1
    return left


@jit()
def _draw_row(user: Any, key: Any, out: Any, taken: Any, seen: int, replacement: bool) -> int:
    """Fill ``out`` with the slots of one user whose ``seen`` excluded items are marked; return how many could be."""
    num_items, slots = len(taken), len(out)
    filled = slots if replacement else min(slots, num_items - seen)
    if seen == num_items:
        filled = 0
    words = _words(user, 0, 0, key)
    avoid = 2 * seen <= num_items
    left = np.empty(0, dtype=np.int64)
    first = 0
    for slot in range(filled):
        if slot & 3 == 0:
            words = _words(user, slot >> 2, 0, key)
        if not replacement:
            avoid = 2 * (seen + slot) <= num_items
        if avoid:
            out[slot] = _below(words, user, key, slot, num_items, taken, True)
            if not replacement:
                taken[out[slot]] = True
            continue
        if len(left) == 0:
            left = _list_left(taken, num_items - seen - (0 if replacement else slot))
            first = slot
        done = 0 if replacement else slot - first
        at = done + _below(words, user, key, slot, len(left) - done, taken, False)
        out[slot] = left[at]
        if not replacement:
            left[at] = left[done]
            left[done] = out[slot]
    out[filled:] = -1
    return filled


@jit()
def _draw_rows(
    indptr: Any,
    indices: Any,
    num_items: int,
    users: Any,
    offsets: Any,
    key: Any,
    out: Any,
    extra: Any,
    replacement: bool,
) -> int:
    taken = np.zeros(num_items, dtype=np.bool_)
    short = -1
    for row in range(len(users)):
        user = users[row]
        slots = out[offsets[row] : offsets[row + 1]]
        if len(slots) == 0:
            continue
        history = indices[indptr[user] : indptr[user + 1]]
        seen = len(history)
        for item in history:
            taken[item] = True
        for item in extra[row]:
            if item >= 0 and not taken[item]:
                taken[item] = True
                seen += 1
        filled = _draw_row(np.uint64(user), key, slots, taken, seen, replacement)
        if filled < len(slots) and short < 0:
            short = row
        for item in history:
            taken[item] = False
        for item in extra[row]:
            if item >= 0:
                taken[item] = False
        if not replacement:
            for item in slots[:filled]:
                taken[item] = False
    return short
