"""Negatives in proportion to a mass per item on the CPU by numba: bit for bit the draws of the C++ sampler.

The definition is in ``fastkd/kernels/reference/sample_popularity.py``. Used where ``fastkd._native`` is not built.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._sampler_rows import RowSampler, mark, scale, scale_wide, slot_words, unmark

_FULL = np.uint64(0x100000000)
_SLOTS_PER_BLOCK = 2


class PopularitySampler(RowSampler):
    """Draws in proportion to ``masses``, uint64[num_items] that sum to ``num_items * 2**32``."""

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int, masses: NDArray[np.uint64],
        threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(indptr, indices, num_items)
        del threads
        self.kept, self.alias = alias_table(masses)
        self.before = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(masses, dtype=np.uint64)])

    def draw_rows(
        self, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any, replacement: bool
    ) -> int:
        """Fill ``out[offsets[r]:offsets[r + 1]]`` for each row; return the first that could not be filled, or -1."""
        return int(
            _draw_rows(
                self.indptr, self.indices, users, firsts, offsets, key, out, log_prob, extra, replacement, self.kept,
                self.alias, self.before,
            )
        )  # fmt: skip


@jit()
def alias_table(masses: Any) -> Any:
    """Return ``kept`` and ``alias`` of each bucket."""
    size = len(masses)
    kept, alias = np.zeros(size, dtype=np.uint32), np.arange(size).astype(np.uint32)
    light, heavy = 0, 0
    while light < size and masses[light] >= _FULL:
        light += 1
    while heavy < size and masses[heavy] < _FULL:
        heavy += 1
    rest = masses[heavy] if heavy < size else np.uint64(0)
    while heavy < size:
        if rest < _FULL:
            other = heavy + 1
            while masses[other] < _FULL:
                other += 1
            kept[heavy], alias[heavy] = rest, other
            rest = masses[other] - (_FULL - rest)
            heavy = other
        elif light < size:
            kept[light], alias[light] = masses[light], heavy
            rest -= _FULL - masses[light]
            light += 1
            while light < size and masses[light] >= _FULL:
                light += 1
        else:
            break
    return kept, alias


@jit()
def mass_left(before: Any, taken_items: Any, taken_extra: Any, taken: Any) -> Any:
    """Return the mass of what a row may draw from, and mark what it may not."""
    left = before[-1]
    mark(taken, taken_items, taken_extra[:0])
    for item in taken_items:
        left -= before[item + 1] - before[item]
    for item in taken_extra:
        if item >= 0 and not taken[item]:
            taken[item] = True
            left -= before[item + 1] - before[item]
    return left


@jit()
def rank_table(before: Any, taken: Any) -> Any:
    """Return where each taken item would begin if the others lay end to end, and the mass taken up to each."""
    gone = np.flatnonzero(taken)
    starts, removed = np.empty(len(gone), dtype=np.uint64), np.zeros(len(gone) + 1, dtype=np.uint64)
    for k in range(len(gone)):
        starts[k] = before[gone[k]] - removed[k]
        removed[k + 1] = removed[k] + before[gone[k] + 1] - before[gone[k]]
    return starts, removed


@jit()
def weighted(first: Any, second: Any, whole: bool, began_with: Any, tables: Any, starts: Any, removed: Any) -> Any:
    """Return the item of two words in a stage, or -1 if they are turned away."""
    kept, alias, before = tables
    if whole:
        bucket, even = scale(first, np.uint64(len(kept)))
        if not even:
            return np.int64(-1)
        at = np.int64(bucket)
        return at if second < np.uint64(kept[at]) else np.int64(alias[at])
    offset, even = scale_wide(first, second, began_with)
    if not even:
        return np.int64(-1)
    offset += removed[np.searchsorted(starts, offset, side="right")]
    return np.int64(np.searchsorted(before, offset, side="right") - 1)


@jit()
def _draw_row(
    user: Any, first: int, key: Any, out: Any, log_prob: Any, taken: Any, left: Any, replacement: bool, tables: Any
) -> int:
    before = tables[2]
    began_with, whole = before[-1], True
    starts, removed = np.empty(0, dtype=np.uint64), np.zeros(1, dtype=np.uint64)
    for j in range(len(out)):
        if left == np.uint64(0):
            return j
        if left < began_with - left:
            began_with, whole = left, False
            starts, removed = rank_table(before, taken)
        attempt = 0
        item = np.int64(-1)
        while item < 0 or taken[item]:
            words = slot_words(user, first + j, _SLOTS_PER_BLOCK, attempt, key)
            item = weighted(words[0], words[1], whole, began_with, tables, starts, removed)
            attempt += 1
        out[j] = item
        mass = before[item + 1] - before[item]
        if len(log_prob) > 0:
            log_prob[j] = np.log(np.float64(mass)) - np.log(np.float64(left))
        if not replacement:
            taken[item] = True
            left -= mass
    return len(out)


@jit()
def _draw_rows(
    indptr: Any, indices: Any, users: Any, firsts: Any, offsets: Any, key: Any, out: Any, log_prob: Any, extra: Any,
    replacement: bool, kept: Any, alias: Any, before: Any,
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
        tables = (kept, alias, before)
        filled = _draw_row(np.uint64(user), firsts[row], key, out[begin:end], logs, taken, left, replacement, tables)
        out[begin + filled : end] = -1
        logs[filled:] = -np.inf
        if filled < end - begin and short < 0:
            short = row
        unmark(taken, history, extra[row], out[begin : begin + (0 if replacement else filled)])
    return short
