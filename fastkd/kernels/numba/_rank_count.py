"""How many items rank before each of a user's targets, one tile of filter scores at a time.

Targets are sorted, best first: target t has the key ``keys[t]`` and the score s_t. A filter score above
``above[t]`` = s_t + margin certainly beats target t, one below ``below[t]`` = s_t - margin certainly does not; between
them the pair's canonical key decides. An item's *place* is the first target it beats; the rank of a target is then one
more than the number of items with a place no later than its own.

A few targets are counted one by one in vector code. Many are looked up: scores are cut into cells between the lowest
and the highest target. Cells that no target's margin touches hold one place, and the others name the targets to search.

Shapes: B users, W items in a tile, T targets, G cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._rank_score import first_beaten, pair_key
from fastkd.kernels.numba._select import Keys

Floats = NDArray[Any]
Ints = NDArray[Any]

PADDING = 4
"""Places behind the last target: ``below`` -inf, which no score is under, ``above`` NaN, which none is near."""

_FEW_GROUP = 512
_GROUP = 128


@jit()
def make_cells(above: Floats, below: Floats, count: int, table: NDArray[np.uint16]) -> tuple[Any, Any]:
    """Fill ``table`` UInt16[G] of one user and return (origin, scale) of the cells.

    A cell's entry is ``2 * place + searched``; ``searched`` says that its scores have to be compared with the targets
    from ``place`` to the place of the cell below.
    """
    last = len(table) - 1
    origin, span = below[count - 1], above[0] - below[count - 1]
    scale = above.dtype.type(0.0)
    if span > 0 and np.isfinite((last - 2) / span):
        scale = above.dtype.type((last - 2) / span)
    starts, stops = 0, 0
    for cell in range(last, -1, -1):
        while starts < count and cell_of(below[starts], origin, scale, last) > cell:
            starts += 1
        while stops < count and cell_of(above[stops], origin, scale, last) >= cell:
            stops += 1
        table[cell] = 2 * starts + (stops > starts)
    return origin, scale


@jit(inline="always")
def cell_of(score: Any, origin: Any, scale: Any, last: Any) -> Any:
    """Return the cell of a score; never smaller for a larger score. Below the origin lies cell 0."""
    x = (score - origin) * scale + np.float32(1.0)
    x = x if x > 0 else np.float32(0.0)
    top = np.float32(last)
    x = x if x < top else top
    return np.int32(x)


@jit()
def count_few(
    row: Floats, first: int, user: Floats, items: Floats, bias: Floats, margin: float,
    keys: Keys, above: Floats, below: Floats, count: int, counts: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Add to ``counts[t]`` how many scores of a row (items ``first`` on) beat target t."""
    for start in range(0, len(row), _FEW_GROUP):
        group = row[start : start + _FEW_GROUP]
        for t in range(count - 1, -1, -1):
            low, high = below[t], above[t]
            near, sure = np.int32(0), np.int32(0)
            for j in range(len(group)):
                near = np.int32(near + np.int32(group[j] >= low))
                sure = np.int32(sure + np.int32(group[j] > high))
            if near == 0:
                break  # better targets are further up
            if near > sure:
                for j in range(len(group)):
                    if low <= group[j] <= high:
                        key = pair_key(user, items, first + start + j, bias, margin)
                        sure = np.int32(sure + np.int32(key < keys[t]))
            counts[t] += np.uint32(sure)


@jit()
def count_many(
    row: Floats, first: int, user: Floats, items: Floats, bias: Floats, margin: float,
    keys: Keys, above: Floats, below: Floats, count: int, places: NDArray[np.uint32],
    table: NDArray[np.uint16], origin: Any, scale: Any,
) -> None:  # fmt: skip
    """Add to ``places[2 * p]`` how many scores of a row have place p; odd entries are waste."""
    cells, left = np.empty(_GROUP, dtype=np.int32), np.empty(_GROUP, dtype=np.int32)
    lowest, last = below[count - 1], len(table) - 1
    for start in range(0, len(row), _GROUP):
        group = row[start : start + _GROUP]
        passing = np.int32(0)
        for j in range(len(group)):
            passing = np.int32(passing + np.int32(group[j] >= lowest))
        if passing == 0:
            continue
        waiting = 0
        if 8 * passing < len(group):
            for j in range(len(group)):
                left[waiting] = j
                waiting += group[j] >= lowest
        else:
            for j in range(len(group)):
                cells[j] = cell_of(group[j], origin, scale, last)
            for j in range(len(group)):
                entry = table[cells[j]]
                places[entry] += np.uint32(1)
                left[waiting] = j
                waiting += entry & 1
        for w in range(waiting):
            at = np.int64(left[w])
            place = _search(group[at], below, count, table, origin, scale)
            if group[at] <= above[place]:
                key = pair_key(user, items, first + start + at, bias, margin)
                place = first_beaten(keys, place, count, key)
            places[2 * place] += np.uint32(1)


@jit(inline="always")
def _search(score: Any, below: Floats, count: int, table: NDArray[np.uint16], origin: Any, scale: Any) -> Any:
    """Return the first target that a score beats or comes near; the usual case without a branch."""
    cell = np.int64(cell_of(score, origin, scale, len(table) - 1))
    start = np.int64(table[cell] >> 1)
    place = start + (score < below[start]) + (score < below[start + 1]) + (score < below[start + 2])
    if score < below[place]:
        stop = np.int64(table[cell - 1] >> 1) if cell > 0 else count
        while place < stop:
            middle = (place + stop) >> 1
            if score >= below[middle]:
                stop = middle
            else:
                place = middle + 1
    return place
