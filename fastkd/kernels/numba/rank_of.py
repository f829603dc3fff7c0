"""Exact ranks of given items on the CPU: filter scores are counted against thresholds, close calls decided exactly.

Users x items tiles of filter scores pass by while they lie in the cache. A score outside the proved margin around every
target counts at once; one inside is re-scored canonically (``_rank_score``), so tiles and threads leave no trace.
A user without a usable bound (vectors that are not finite or overflow) or with a target whose score is not finite is
counted by canonical scores alone.

Shapes: B users, N items, D dimensions, C given items, T <= C targets of a user.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._product import multiply, ready
from fastkd.kernels.numba._rank_count import PADDING, count_few, count_many, make_cells
from fastkd.kernels.numba._rank_score import first_beaten, margins, pair_key
from fastkd.kernels.numba._select import MAX_ITEMS, Keys, key_score

Floats = NDArray[Any]
Ints = NDArray[Any]

_FEW = 16
"""Up to so many targets are counted one by one."""

_COLUMNS = 4096
_CELLS = 4
"""Cells a target, so that most hold none or one; more would not stay in the cache."""

_MAX_CELLS = 1 << 14
_USER_BLOCK = 64
_TILE_BYTES = 1 << 20


def rank_of(
    users: Tensor, items: Tensor, ids: Tensor, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Return Int64[B, C]; see :func:`fastkd.ops.rank_of`. Ids outside [0, N) have rank 0.

    Memory beyond the arguments: O(C) per user of a block, one tile, and a float32 copy of tables in half precision.
    """
    user_table, item_table = _as_float(users), _as_float(items)
    if len(item_table) > MAX_ITEMS:
        raise ValueError(f"backend 'numba' ranks at most {MAX_ITEMS} items, got {len(items)}; use backend='reference'")
    ranks = torch.zeros(ids.shape, dtype=torch.int64)
    if ids.numel() == 0 or len(item_table) == 0:
        return ranks
    count = len(user_table)
    rows = np.zeros(count + 1, dtype=np.int64) if indptr is None else indptr.numpy()
    seen = np.zeros(0, dtype=np.int32) if indices is None else indices.numpy()
    offsets = np.zeros(0, dtype=np.float32) if bias is None else _as_float(bias).to(torch.float32).numpy()
    wide, narrow, odd = margins(user_table, item_table, offsets)
    wanted, found = ids.detach().long().numpy(), ranks.numpy()
    block = max(1, min(_USER_BLOCK, -(-count // torch.get_num_threads())))

    def rank(start: int) -> None:
        part = slice(start, min(start + block, count))
        for first in range(0, ids.shape[1], _COLUMNS):
            columns = slice(first, first + _COLUMNS)
            targets = _Targets(user_table[part], item_table, wanted[part, columns], offsets, wide[part], narrow[part])
            targets.count(rows[start : part.stop + 1], seen, odd)
            targets.write(found[part, columns])

    run_blocks(rank, range(0, count, block))
    return ranks


def _as_float(table: Tensor) -> Tensor:
    """Return the values contiguous, outside autograd, in float32 or float64 (half precisions widen exactly)."""
    values = table.detach()
    return (values if values.dtype in (torch.float32, torch.float64) else values.float()).contiguous()


class _Targets:
    """A block of users with their sorted targets and what has been counted so far.

    ``own`` UInt64[B, C]: key of every given item, the largest for padding. ``keys``: the same, sorted by row.
    ``above``, ``below`` Float[B, C]: scores that certainly do and do not beat a target. ``sizes`` Int64[B]: targets.
    """

    def __init__(self, users: Tensor, items: Tensor, ids: Ints, bias: Floats, wide: Floats, narrow: Floats) -> None:
        self.users, self.items, self.bias, self.narrow = users, items, bias, narrow
        shape = ids.shape
        self.own, self.keys = np.empty(shape, dtype=np.uint64), np.empty(shape, dtype=np.uint64)
        padded, dtype = (shape[0], shape[1] + PADDING), users.numpy().dtype
        self.above, self.below = np.full(padded, np.nan, dtype=dtype), np.full(padded, -np.inf, dtype=dtype)
        self.sizes, self.exact = np.zeros(len(ids), dtype=np.int64), ~np.isfinite(wide)
        _sort_targets(
            users.numpy(), items.numpy(), ids, bias, wide, narrow,
            self.own, self.keys, self.above, self.below, self.sizes, self.exact,
        )  # fmt: skip
        self.few = shape[1] <= _FEW
        self.places = np.zeros((shape[0], 2 * shape[1] + 2), dtype=np.uint32)
        cells = 1 if self.few else min(max(_CELLS * shape[1], 256), _MAX_CELLS)
        self.table = np.zeros((shape[0], cells), dtype=np.uint16)
        self.lines = np.zeros((shape[0], 2), dtype=self.above.dtype)
        if not self.few:
            _make_tables(self.above, self.below, self.sizes, self.exact, self.table, self.lines)

    def count(self, rows: Ints, seen: Ints, odd: Ints) -> None:
        """Stream the catalogue past the block."""
        users, items, count = self.users, self.items, len(self.users)
        arrays = (users.numpy(), items.numpy(), self.bias, self.narrow, self.keys, self.sizes, self.exact, self.places)
        if not self.exact.all():
            width = min(len(items), max(64, _TILE_BYTES // (count * users.element_size()) // 64 * 64))
            tile, cursors = torch.empty(count * width, dtype=users.dtype), rows[:count].copy()
            factor = ready(users)
            for first in range(0, len(items), width):
                last = min(first + width, len(items))
                block = tile[: count * (last - first)].view(count, last - first)
                multiply(factor, items[first:last], block)
                _count_tile(
                    block.numpy(), first, rows, seen, odd, cursors, *arrays,
                    self.above, self.below, self.few, self.table, self.lines,
                )  # fmt: skip
        _count_exactly(rows, seen, odd, self.few, *arrays)

    def write(self, ranks: Ints) -> None:
        """Write the rank of every given item."""
        _write_ranks(self.own, self.keys, self.sizes, self.few, self.places, ranks)


@jit()
def _sort_targets(
    users: Floats, items: Floats, ids: Ints, bias: Floats, wide: Floats, narrow: Floats,
    own: Keys, keys: Keys, above: Floats, below: Floats, sizes: Ints, exact: NDArray[np.bool_],
) -> None:  # fmt: skip
    kind = above.dtype.type
    for b in range(len(users)):
        size = 0
        for c in range(ids.shape[1]):
            item = np.int64(ids[b, c])
            if item < 0 or item >= len(items):
                own[b, c] = ~np.uint64(0)
                continue
            own[b, c] = pair_key(users[b], items, item, bias, narrow[b])
            keys[b, size] = own[b, c]
            size += 1
        sizes[b] = size
        keys[b, :size].sort()
        for t in range(size):
            score = np.float64(key_score(keys[b, t]))
            exact[b] |= not np.isfinite(score)
            above[b, t] = np.nextafter(kind(score + wide[b]), kind(np.inf))
            below[b, t] = np.nextafter(kind(score - wide[b]), kind(-np.inf))


@jit()
def _make_tables(
    above: Floats, below: Floats, sizes: Ints, exact: NDArray[np.bool_], table: NDArray[np.uint16], lines: Floats
) -> None:
    for b in range(len(sizes)):
        if sizes[b] > 0 and not exact[b]:
            lines[b, 0], lines[b, 1] = make_cells(above[b], below[b], sizes[b], table[b])


@jit()
def _count_tile(
    tile: Floats, first: int, rows: Ints, seen: Ints, odd: Ints, cursors: Ints,
    users: Floats, items: Floats, bias: Floats, narrow: Floats, keys: Keys, sizes: Ints, exact: NDArray[np.bool_],
    places: NDArray[np.uint32], above: Floats, below: Floats, few: bool, table: NDArray[np.uint16], lines: Floats,
) -> None:  # fmt: skip
    """Count one tile Float[B, W] (items ``first`` on); what is excluded or odd loses to every target."""
    width = tile.shape[1]
    start, stop = np.searchsorted(odd, first), np.searchsorted(odd, first + width)
    for b in range(len(tile)):
        row, size, cursor = tile[b], sizes[b], cursors[b]
        if size == 0 or exact[b]:
            continue
        if len(bias):
            part = bias[first : first + width]
            for j in range(width):
                row[j] += part[j]
        while cursor < rows[b + 1] and seen[cursor] < first + width:
            row[seen[cursor] - first] = -np.inf
            cursor += 1
        cursors[b] = cursor
        for j in range(start, stop):
            row[odd[j] - first] = -np.inf
        if few:
            count_few(row, first, users[b], items, bias, narrow[b], keys[b], above[b], below[b], size, places[b])
        else:
            count_many(
                row, first, users[b], items, bias, narrow[b], keys[b], above[b], below[b], size, places[b],
                table[b], lines[b, 0], lines[b, 1],
            )  # fmt: skip


@jit()
def _count_exactly(
    rows: Ints, seen: Ints, odd: Ints, few: bool, users: Floats, items: Floats, bias: Floats, narrow: Floats,
    keys: Keys, sizes: Ints, exact: NDArray[np.bool_], places: NDArray[np.uint32],
) -> None:  # fmt: skip
    """Count by canonical scores: everything for the users marked ``exact``, the odd items for the others."""
    for b in range(len(users)):
        size, cursor = sizes[b], rows[b]
        total = len(items) if exact[b] else len(odd)
        for at in range(total if size > 0 else 0):
            item = at if exact[b] else np.int64(odd[at])
            while cursor < rows[b + 1] and seen[cursor] < item:
                cursor += 1
            if cursor < rows[b + 1] and seen[cursor] == item:
                continue
            place = first_beaten(keys[b], 0, size, pair_key(users[b], items, item, bias, narrow[b]))
            if not few:
                places[b, 2 * place] += np.uint32(1)
            else:
                for t in range(place, size):
                    places[b, t] += np.uint32(1)


@jit()
def _write_ranks(own: Keys, keys: Keys, sizes: Ints, few: bool, places: NDArray[np.uint32], ranks: Ints) -> None:
    for b in range(len(own)):
        if not few:
            total = np.int64(0)
            for t in range(sizes[b]):
                total += np.int64(places[b, 2 * t])
                places[b, t] = np.uint32(total)
        for c in range(own.shape[1]):
            if own[b, c] != ~np.uint64(0):
                ranks[b, c] = 1 + np.int64(places[b, np.searchsorted(keys[b, : sizes[b]], own[b, c])])
