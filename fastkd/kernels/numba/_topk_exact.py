"""Canonical scores: float64 sums in order of d, rounded to float32, plus bias. They decide what filter scores cannot.

Shapes: B users, W items in a tile, D dimensions, K results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import Keys, key_item, key_score, make_key, select_smallest
from fastkd.kernels.numba._simd import LANES, first_bit, not_below
from fastkd.kernels.numba._topk_cut import keep_smallest, write_sorted
from fastkd.kernels.numba._topk_filter import lower_bound

Floats = NDArray[Any]
Ints = NDArray[Any]

_COLUMNS = 32
NO_OFFSETS = np.zeros(0, dtype=np.int64)
"""Candidates are rows of the whole table."""


@jit()
def finish_rows(
    keys: Keys, counts: Ints, least: Ints, users: Floats, table: Floats, offsets: Ints, bias: Floats,
    scores: Floats, ids: Ints,
) -> None:  # fmt: skip
    """Re-score each user's candidates canonically and write the best K; rows with fewer than ``least`` are left.

    Candidate j of row b is ``table[offsets[b] + j]``, or the row of its own id where there are no offsets.
    """
    k = ids.shape[1]
    where = np.empty(max(counts.max(), 0), dtype=np.int64)
    for b in range(len(users)):
        count = counts[b]
        if count < least[b]:
            continue
        for j in range(count):
            where[j] = offsets[b] + j if len(offsets) else key_item(keys[b, j])
        _rescore(keys[b], count, users[b], table, where, bias)
        keep_smallest(keys[b], count, k)
        write_sorted(keys[b], min(count, k), scores[b], ids[b])


@jit()
def _rescore(keys: Keys, count: int, user: Floats, table: Floats, where: Ints, bias: Floats) -> None:
    """Replace the filter scores in ``keys[:count]`` by canonical ones; key j's item is ``table[where[j]]``."""
    four, out = np.zeros(4, dtype=np.int64), np.empty(4, dtype=np.float32)
    for start in range(0, count, 4):
        size = min(4, count - start)
        for j in range(size):
            four[j] = where[start + j]
        _four_scores(user, table, four, out)
        for j in range(size):
            item = key_item(keys[start + j])
            score = out[j]
            if len(bias):
                score = np.float32(score + bias[item])
            keys[start + j] = make_key(score, item)


@jit()
def _four_scores(user: Floats, items: Floats, ids: Ints, out: Floats) -> None:
    """Write the scores of four items; four, because each sum waits for its own last addition."""
    i0, i1, i2, i3 = items[ids[0]], items[ids[1]], items[ids[2]], items[ids[3]]
    t0 = t1 = t2 = t3 = 0.0
    for d in range(len(user)):
        u = np.float64(user[d])
        t0 += u * np.float64(i0[d])
        t1 += u * np.float64(i1[d])
        t2 += u * np.float64(i2[d])
        t3 += u * np.float64(i3[d])
    out[0], out[1], out[2], out[3] = np.float32(t0), np.float32(t1), np.float32(t2), np.float32(t3)


@jit()
def score_tile(users: Floats, items: Floats, first: int, bias: Floats, out: Floats) -> None:
    """Write the canonical scores Float32[B, W] of items ``first`` on; what is past the tile's items is padding.

    Sums run side by side for 32 items, so vector registers hold different sums and no sum is reordered.
    """
    dim = users.shape[1]
    columns, sums = np.zeros((dim, _COLUMNS)), np.empty(_COLUMNS)
    for start in range(0, len(items), _COLUMNS):
        size = min(_COLUMNS, len(items) - start)
        for j in range(size):
            for d in range(dim):
                columns[d, j] = items[start + j, d]
        for b in range(len(users)):
            _sum_columns(users[b], columns, sums)
            for j in range(size):
                out[b, start + j] = np.float32(sums[j])
            if len(bias):
                for j in range(size):
                    out[b, start + j] = np.float32(out[b, start + j] + bias[first + start + j])


@jit()
def _sum_columns(user: Floats, columns: Floats, sums: Floats) -> None:
    dim, d = len(user), 0
    for j in range(_COLUMNS):
        sums[j] = 0.0
    while d + 4 <= dim:
        u0, u1, u2, u3 = np.float64(user[d]), np.float64(user[d + 1]), np.float64(user[d + 2]), np.float64(user[d + 3])
        c0, c1, c2, c3 = columns[d], columns[d + 1], columns[d + 2], columns[d + 3]
        for j in range(_COLUMNS):
            sums[j] = (((sums[j] + u0 * c0[j]) + u1 * c1[j]) + u2 * c2[j]) + u3 * c3[j]
        d += 4
    while d < dim:
        u0, c0 = np.float64(user[d]), columns[d]
        for j in range(_COLUMNS):
            sums[j] += u0 * c0[j]
        d += 1


@jit()
def merge_tile(
    tile: Floats, first: int, width: int, k: int, users: Ints, rows: Ints, seen: Ints, keys: Keys, counts: Ints,
    worst: Keys,
) -> None:  # fmt: skip
    """Merge canonical scores Float32[B, W] into each user's best K keys, which never tie.

    ``users``: whose rows of ``seen`` these are. ``worst``: the K-th best key so far.
    """
    for b in range(len(users)):
        hidden = seen[rows[users[b]] : rows[users[b] + 1]]
        counts[b], worst[b] = _merge_row(tile[b], first, width, k, hidden, keys[b], counts[b], worst[b])


@jit()
def _merge_row(
    row: Floats, first: int, width: int, k: int, hidden: Ints, keys: Keys, count: int, worst: Any
) -> tuple[int, Any]:
    cursor = lower_bound(hidden, first)
    for start in range(0, width, LANES):
        bound = key_score(worst)
        hits = not_below(row, start, np.float32(-np.inf) if bound != bound else np.float32(bound))
        while hits != 0:
            j = start + first_bit(hits)
            hits &= hits - np.uint64(1)
            if j >= width:
                break
            key = make_key(row[j], first + j)
            if key >= worst:
                continue
            while cursor < len(hidden) and hidden[cursor] < first + j:
                cursor += 1
            if cursor < len(hidden) and hidden[cursor] == first + j:
                continue
            if count == len(keys):
                worst = select_smallest(keys, count, k)
                count = k
                if key >= worst:
                    continue
            keys[count] = key
            count += 1
    return count, worst
