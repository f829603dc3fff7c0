"""Candidates of a tile of filter scores: 64 comparisons are one branch, and most groups end there.

A filter score is a product in the tables' dtype, with an error of its own.

Shapes: B users, W items in a tile (a multiple of 64, padded with -inf), C candidates in a buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import Keys, key_score, make_key
from fastkd.kernels.numba._simd import LANES, above, first_bit
from fastkd.kernels.numba._topk_cut import bound_of, keep_within, reached_by

Floats = NDArray[Any]
Ints = NDArray[Any]


@jit()
def filter_tile(
    tile: Floats, first: int, width: int, k: int, rows: Ints, seen: Ints, bias: Floats, margins: Floats,
    worst: Floats, keys: Keys, counts: Ints, limits: Ints,
) -> None:  # fmt: skip
    """Append the candidates of one tile Float[B, W] (``width`` items from ``first`` on) to each user's buffer.

    ``worst``: each user's K-th best filter score so far. ``counts``: -1 for rows that they cannot decide.
    ``limits``: a buffer is cut back where it would grow past them.
    """
    for b in range(tile.shape[0]):
        if counts[b] < 0:
            continue
        if not np.isfinite(margins[b]):
            counts[b] = -1
            continue
        row = tile[b]
        hide(row, first, width, seen[rows[b] : rows[b + 1]])
        if len(bias):
            part = bias[first : first + width]
            for j in range(width):
                row[j] += part[j]
        _scan_row(row, first, k, margins[b], b, worst, keys[b], counts, limits)


@jit()
def hide(row: Floats, first: int, width: int, seen: Ints) -> None:
    """Give the items of ``seen`` in [first, first + width) the score -inf."""
    if len(seen) == 0 or seen[-1] < first:
        return
    cursor = lower_bound(seen, first)
    while cursor < len(seen) and seen[cursor] < first + width:
        row[seen[cursor] - first] = -np.inf
        cursor += 1


@jit()
def lower_bound(seen: Ints, item: int) -> int:
    """Return the position of the first id in ``seen`` that is at least ``item``."""
    low, high = 0, len(seen)
    while low < high:
        middle = (low + high) >> 1
        if seen[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low


@jit(inline="always")
def threshold(worst: Any, margin: float) -> Any:
    """Return what a candidate's score must be above, given the K-th best score so far."""
    return np.nextafter(np.float32(np.float64(worst) - 2 * margin), np.float32(-np.inf))


@jit()
def _scan_row(
    row: Floats, first: int, k: int, margin: float, b: int, worst: Floats, keys: Keys, counts: Ints, limits: Ints
) -> None:
    """Append what is above the K-th best less twice the margin; cut the buffer back where it is full."""
    count = counts[b]
    if count == 0 and worst[b] == -np.inf:
        worst[b] = _opening(row, k)
    bound = row.dtype.type(threshold(worst[b], margin))
    for start in range(0, len(row), LANES):
        hits = above(row, start, bound)
        if hits == 0:
            continue
        if count + LANES > limits[b]:
            counts[b] = count
            cut_back(k, margin, b, worst, keys, counts, limits)
            count = counts[b]
            if count < 0:
                return
            bound = row.dtype.type(threshold(worst[b], margin))
            hits = above(row, start, bound)
        while hits != 0:
            j = start + first_bit(hits)
            hits &= hits - np.uint64(1)
            keys[count] = make_key(np.float32(row[j]), first + j)
            count += 1
    counts[b] = count


@jit()
def cut_back(k: int, margin: float, b: int, worst: Floats, keys: Keys, counts: Ints, limits: Ints) -> None:
    """Cut the buffer ``keys`` of user b back to his best; one that stays too full cannot be decided."""
    capacity = len(keys)
    count, least = compact(keys, counts[b], k, margin)
    worst[b] = max(worst[b], least)
    if count > capacity - max(LANES, capacity // 8):
        counts[b] = -1
        return
    counts[b] = count
    limits[b] = min(capacity, count + max(2 * k, 2 * LANES))


@jit()
def _opening(row: Floats, k: int) -> Any:
    """Return a score that K of the row reach, a little below its K-th best; -inf where the row is short.

    That is the K-th best of the maxima of disjoint groups. It spares a buffer most of what the first tile would
    put in, and the selections that would follow.
    """
    groups = 32
    while 2 * groups < 3 * k:
        groups *= 2
    if k < 1 or 4 * groups > len(row):
        return np.float32(-np.inf)
    best = np.full(groups, -np.inf, dtype=row.dtype)
    for start in range(0, len(row) - groups + 1, groups):
        part = row[start : start + groups]
        for j in range(groups):
            value = part[j]
            best[j] = value if value > best[j] else best[j]
    return np.float32(reached_by(best, k))


@jit()
def compact_rows(keys: Keys, counts: Ints, k: int, margins: Floats) -> None:
    """Cut every buffer back to what can still be among the best ``k``; mark rows without a margin undecided."""
    for b in range(len(counts)):
        if not np.isfinite(margins[b]):
            counts[b] = -1
        if counts[b] >= 0:
            counts[b], _ = compact(keys[b], counts[b], k, margins[b])


@jit()
def compact(keys: Keys, count: int, k: int, margin: float) -> tuple[int, Any]:
    """Keep the best ``k`` or a few more, and what is within twice the margin of the last; return number, last score."""
    if count <= k:
        return count, np.float32(-np.inf)
    worst = np.float32(key_score(bound_of(keys, count, k, k // 16)))
    last = make_key(threshold(worst, margin), 0)
    return keep_within(keys, count, last - np.uint64(1)), worst
