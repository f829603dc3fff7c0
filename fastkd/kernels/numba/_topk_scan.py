"""Candidates of a tile without its scores: six users meet 64 items in registers, and only what passes is written.

The same candidates, margins and buffers as :func:`_topk_filter.filter_tile` has from scores in memory, for a tile that
is not the first: each user's line, his K-th best score so far less twice his margin, is known before.

Shapes: B users, G groups of six, W items in a tile, C candidates in a buffer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._product import GROUP, PANEL, block_above, pack_panel
from fastkd.kernels.numba._select import Keys, make_key
from fastkd.kernels.numba._simd import first_bit
from fastkd.kernels.numba._topk_filter import cut_back, lower_bound, threshold
from fastkd.kernels.numba._topk_margin import margins_at, norm_bound, norms_of

Floats = NDArray[Any]
Ints = NDArray[Any]


@jit()
def scan_tile(
    packed: Floats, items: Floats, first: int, k: int, rows: Ints, seen: Ints, bias: Floats, panel: Floats,
    norms: Floats, top: float, terms: tuple[float, float, float, bool], margins: Floats,
    worst: Floats, keys: Keys, counts: Ints, limits: Ints,
) -> float:  # fmt: skip
    """Append the candidates among ``items`` [W, D], whose first is ``first``, to each user's buffer.

    ``top``: a bound on the norms of the items met so far; the new one is returned, with ``margins`` brought up to it.
    ``terms``: relative, bias, tiny, usable of :class:`Margins`. ``panel``: memory. The rest as ``filter_tile`` has it.
    """
    count, dim = len(worst), items.shape[1]
    lines = np.full(len(packed) * GROUP, np.inf, dtype=np.float32)
    _draw_lines(lines, worst, margins, counts)
    found, hits = np.empty((GROUP, PANEL), dtype=np.float32), np.empty(GROUP, dtype=np.uint64)
    spare = np.zeros(PANEL if len(bias) else 0, dtype=np.float32)
    for start in range(0, len(items), PANEL):
        have = min(PANEL, len(items) - start)
        pack_panel(items, start, panel)
        norm = norm_bound(_largest_square(panel), dim, False)
        if norm != norm:
            norm = norms_of(items[start : start + have]).max()
        if not norm <= top:
            top = norm
            margins[:] = margins_at(norms, top, terms[0], terms[1], terms[2], terms[3])
            _draw_lines(lines, worst, margins, counts)
        inside = ~np.uint64(0) >> np.uint64(PANEL - have)
        shifts, at = bias, first + start
        if len(bias) and have < PANEL:
            spare[:have] = bias[at : at + have]
            shifts, at = spare, 0
        for g in range(len(packed)):
            user = g * GROUP
            if len(bias):
                some = block_above(packed, user * dim, panel, dim, shifts, at, lines, user, found, hits)
            else:
                some = block_above(packed, user * dim, panel, dim, None, 0, lines, user, found, hits)
            if some:
                for m in range(min(GROUP, count - user)):
                    b, passing = user + m, hits[m] & inside
                    if passing == 0:
                        continue
                    if counts[b] + PANEL > limits[b]:
                        cut_back(k, margins[b], b, worst, keys[b], counts, limits)
                        lines[b] = threshold(worst[b], margins[b]) if counts[b] >= 0 else np.float32(np.inf)
                    _append(passing, found, m, first + start, rows[b], rows[b + 1], seen, lines[b], b, keys, counts)
    return top


@jit()
def scan_tiles(
    packed: Floats, table: Floats, tiles: Ints, k: int, rows: Ints, seen: Ints, bias: Floats, panel: Floats,
    norms: Floats, top: float, terms: tuple[float, float, float, bool], margins: Floats,
    worst: Floats, keys: Keys, counts: Ints, limits: Ints,
) -> None:  # fmt: skip
    """Scan ``tiles`` [T, 2] of the whole ``table``: one kernel, so that threads do not wait for the interpreter."""
    for t in range(len(tiles)):
        first, last = tiles[t]
        top = scan_tile(packed, table[first:last], first, k, rows, seen, bias, panel, norms, top, terms, margins,
                        worst, keys, counts, limits)  # fmt: skip


@jit(inline="always")
def _append(
    hits: Any, scores: Floats, m: int, first: int, begin: int, end: int, seen: Ints, line: Any, b: int, keys: Keys,
    counts: Ints,
) -> None:  # fmt: skip
    """Append the items of ``hits`` above the line that are not among ``seen[begin:end]``."""
    count = counts[b]
    while hits != 0:
        j = first_bit(hits)
        hits &= hits - np.uint64(1)
        score = scores[m, j]
        if score > line and not (begin < end and _holds(seen, begin, end, first + j)):
            keys[b, count] = make_key(score, first + j)
            count += 1
    counts[b] = count


@jit()
def _holds(seen: Ints, begin: int, end: int, item: int) -> bool:
    place = begin + lower_bound(seen[begin:end], item)
    return place < end and seen[place] == item


@jit()
def _draw_lines(lines: Floats, worst: Floats, margins: Floats, counts: Ints) -> None:
    """Set each user's line; nothing passes that of a user who has no margin or cannot be decided."""
    for b in range(len(worst)):
        if not np.isfinite(margins[b]):
            counts[b] = -1
        lines[b] = threshold(worst[b], margins[b]) if counts[b] >= 0 else np.float32(np.inf)


@jit(fastmath={"contract"})
def _largest_square(panel: Floats) -> float:
    """Return the largest sum of squares of a panel's items, inf where one is NaN."""
    squares = np.zeros(PANEL, dtype=np.float32)
    for d in range(len(panel)):
        row = panel[d]
        for j in range(PANEL):
            squares[j] += row[j] * row[j]
    largest = np.float32(0.0)
    for j in range(PANEL):
        if squares[j] != squares[j]:
            return np.inf
        largest = max(largest, squares[j])
    return np.float64(largest)
