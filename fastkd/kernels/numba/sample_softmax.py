"""Exact draws without replacement from a softmax over the catalogue on the CPU, one noise per group of items.

Products of a tile give the best score of each group of 128 items, a proved margin above the canonical ones. With the
group's largest noise that bounds every key in it. The groups with the best bounds are resolved first (canonical scores,
noise of their items), then only groups whose bound reaches the n-th key found. The definition is in
``fastkd/kernels/reference/sample_softmax.py``.

Shapes: B users, N items, G groups, D dimensions, W items in a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log import log
from fastkd.kernels.numba._product import multiply, ready
from fastkd.kernels.numba._select import select_smallest
from fastkd.kernels.numba._softmax_score import canonical, margins, widened
from fastkd.kernels.numba.philox import high_word, philox4x32, uniform_double, word, words_of

Floats = NDArray[Any]
Ints = NDArray[Any]

_GROUP = 128
_USER_BLOCK = 64
_TILE_BYTES = 4 << 20
_BITS_OF_FIRST = np.uint64(25)


def sample_softmax(
    users: Tensor, items: Tensor, n: int, temperature: float, ids: Tensor, indptr: Tensor | None,
    indices: Tensor | None, bias: Tensor | None, key: int,
) -> Tensor:  # fmt: skip
    """Return Int64[B, n], -1 where no item with a weight is left; see :func:`fastkd.ops.sample_softmax`."""
    vectors, table = widened(users), widened(items)
    out = np.full((len(vectors), n), -1, dtype=np.int64)
    count, num_items = len(vectors), len(table)
    if out.size == 0 or num_items == 0:
        return torch.from_numpy(out)
    rows = np.zeros(count + 1, dtype=np.int64) if indptr is None else indptr.numpy()
    seen = np.zeros(0, dtype=np.int32) if indices is None else indices.numpy()
    offsets = np.zeros(0, dtype=np.float32) if bias is None else widened(bias).to(torch.float32).numpy()
    strays, counters = margins(vectors, table, offsets), ids.numpy()
    block = max(1, min(_USER_BLOCK, -(-count // torch.get_num_threads())))
    low, high = words_of(key)

    def draw(start: int) -> None:
        part = slice(start, min(start + block, count))
        bounds = _group_maxima(vectors[part], table, rows[start : part.stop + 1], seen, offsets)
        _draw_rows(
            bounds, strays[part], vectors[part].numpy(), table.numpy(), temperature, counters[part],
            rows[start : part.stop + 1], seen, offsets, low, high, out[part],
        )  # fmt: skip

    run_blocks(draw, range(0, count, block))
    return torch.from_numpy(out)


def _group_maxima(users: Tensor, items: Tensor, rows: Ints, seen: Ints, bias: Floats) -> Floats:
    """Return Float64[B, G], the best filter score of each group's allowed items, -inf where there is none."""
    count, num_items = len(users), len(items)
    maxima = np.full((count, -(-num_items // _GROUP)), -np.inf)
    width = max(_GROUP, _TILE_BYTES // (count * users.element_size()) // _GROUP * _GROUP)
    tile, cursors = torch.empty(count * min(width, num_items), dtype=users.dtype), rows[:count].copy()
    factor = ready(users)
    for first in range(0, num_items, width):
        last = min(first + width, num_items)
        scores = tile[: count * (last - first)].view(count, last - first)
        multiply(factor, items[first:last], scores)
        _maxima_of_tile(scores.numpy(), first, rows, seen, bias, cursors, maxima)
    return maxima


@jit(fastmath={"reassoc"})
def _maxima_of_tile(
    tile: Floats, first: int, rows: Ints, seen: Ints, bias: Floats, cursors: Ints, maxima: Floats
) -> None:
    for b in range(len(tile)):
        row, cursor = tile[b], cursors[b]
        while cursor < rows[b + 1] and seen[cursor] < first + len(row):
            row[seen[cursor] - first] = -np.inf
            cursor += 1
        cursors[b] = cursor
        if len(bias):
            part = bias[first : first + len(row)]
            for j in range(len(part)):
                row[j] += part[j]
        for start in range(0, len(row), _GROUP):
            group = row[start : start + _GROUP]
            best = group[0] if group[0] == group[0] else row.dtype.type(-np.inf)
            for j in range(len(group)):
                best = group[j] if group[j] > best else best
            maxima[b, (first + start) // _GROUP] = best


@jit()
def _least(user: int, group: int, k0: np.uint64, k1: np.uint64) -> tuple[float, Any]:
    """Return a group's least exponential and the item that has it."""
    w0, w1, w2, _ = philox4x32(word(group), word(user), high_word(user), np.uint64(0), k0, k1)
    return -log(uniform_double(w0, w1)) / _GROUP, group * _GROUP + np.int64(w2 >> _BITS_OF_FIRST)


@jit()
def _exponential(user: int, item: int, k0: np.uint64, k1: np.uint64) -> float:
    """Return what an item's exponential has above its group's least one."""
    w0, w1, w2, w3 = philox4x32(word(item >> 1), word(user), high_word(user), np.uint64(1), k0, k1)
    return -log(uniform_double(w2, w3) if item & 1 else uniform_double(w0, w1))


@jit()
def _draw_rows(
    bounds: Floats, margins: Floats, users: Floats, items: Floats, temperature: float, ids: Ints, rows: Ints,
    seen: Ints, bias: Floats, k0: np.uint64, k1: np.uint64, out: Ints,
) -> None:  # fmt: skip
    n, groups = out.shape[1], bounds.shape[1]
    keys = np.empty(n)
    for b in range(len(users)):
        bound, margin, user = bounds[b], margins[b], ids[b]
        for g in range(groups):
            if not np.isfinite(margin):
                bound[g] = np.inf
            elif bound[g] > -np.inf:
                key = (bound[g] + margin) / temperature - log(_least(user, g, k0, k1)[0])
                bound[g] = key + 1e-9 * (1.0 + abs(key))
        keys[:] = -np.inf
        first = -select_smallest(-bound, groups, min(n, groups))
        history = seen[rows[b] : rows[b + 1]]
        for g in range(groups):
            if bound[g] >= first and bound[g] > -np.inf:
                _resolve(user, g, users[b], items, temperature, history, bias, k0, k1, keys, out[b])
        for g in range(groups):
            if bound[g] < first and bound[g] >= keys[n - 1] and bound[g] > -np.inf:
                _resolve(user, g, users[b], items, temperature, history, bias, k0, k1, keys, out[b])


@jit()
def _resolve(
    user: int, group: int, vector: Floats, items: Floats, temperature: float, seen: Ints, bias: Floats,
    k0: np.uint64, k1: np.uint64, keys: Floats, out: Ints,
) -> None:  # fmt: skip
    """Merge the items of a group into the best keys so far, largest first, of equal ones the lower id."""
    least, owner = _least(user, group, k0, k1)
    highest = -log(least)
    stop = min((group + 1) * _GROUP, len(items))
    four, scores = np.zeros(4, dtype=np.int64), np.empty(4, dtype=np.float32)
    cursor = np.searchsorted(seen, group * _GROUP)
    for start in range(group * _GROUP, stop, 4):
        for j in range(4):
            four[j] = min(start + j, stop - 1)
        canonical(vector, items, four, bias, scores)
        for item in range(start, min(start + 4, stop)):
            if cursor < len(seen) and seen[cursor] == item:
                cursor += 1
                continue
            score = np.float64(scores[item - start]) / temperature
            if not score + highest + 1e-9 * (1.0 + abs(score) + abs(highest)) >= keys[-1]:
                continue
            above = 0.0 if item == owner else _exponential(user, item, k0, k1)
            key = score - log(least + above)
            if key > -np.inf:
                _insert(key, item, keys, out)


@jit()
def _insert(key: float, item: int, keys: Floats, out: Ints) -> None:
    """Insert a key; out of a full list the last one falls."""
    at = len(keys) - 1
    if key < keys[at] or (key == keys[at] and item > out[at] >= 0):
        return
    while at > 0 and (keys[at - 1] < key or (keys[at - 1] == key and out[at - 1] > item)):
        keys[at], out[at] = keys[at - 1], out[at - 1]
        at -= 1
    keys[at], out[at] = key, item
