"""Ranks of all items of a few users at a time: canonical scores from packed tiles, then a radix sort.

Shapes: B users, N items, M allowed items of a user, D dimensions, G users of a group, W items of a tile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fastkd.kernels.numba._arrays import array
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import descending

Floats = NDArray[Any]
Ints = NDArray[Any]

TILE = 256
GROUP = 8
"""Users scored together, so that a tile is read once for all of them."""

_RADIX_BITS = 11
_PASSES = 3
_BUCKETS = 1 << _RADIX_BITS


def packed(items: Tensor, dtype: torch.dtype) -> Floats:
    """Return Float[N / W, D, W]: tiles of W items, each dimension's values side by side, zeros past the last item."""
    padded = functional.pad(items, (0, 0, 0, -len(items) % TILE))
    return array(padded.view(-1, TILE, items.shape[1]).transpose(1, 2), dtype)


@jit()
def score_group(users: Floats, tiles: Floats, scores: Floats) -> None:
    """Write canonical scores Float32[G, N]: float64 sums in order of d, rounded."""
    sums, row = np.empty(TILE), np.empty(users.shape[1])
    for t in range(len(tiles)):
        for g in range(len(users)):
            row[:] = users[g]
            _score_tile(row, tiles[t], sums)
            out = scores[g, t * TILE : (t + 1) * TILE]
            for j in range(len(out)):
                out[j] = np.float32(sums[j])


@jit()
def _score_tile(user: Floats, tile: Floats, sums: Floats) -> None:
    """Write float64 inner products of one user with W items; four terms at a time spare loads, not the order."""
    sums[:] = 0.0
    dim = len(user)
    whole = dim - dim % 4
    for d in range(0, whole, 4):
        u0, u1, u2, u3 = user[d], user[d + 1], user[d + 2], user[d + 3]
        r0, r1, r2, r3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        for j in range(TILE):
            total = sums[j] + u0 * np.float64(r0[j])
            total += u1 * np.float64(r1[j])
            total += u2 * np.float64(r2[j])
            sums[j] = total + u3 * np.float64(r3[j])
    for d in range(whole, dim):
        rest = tile[d]
        for j in range(TILE):
            sums[j] += user[d] * np.float64(rest[j])


@jit()
def allowed_items(seen: Ints, allowed: Ints, num_items: int) -> int:
    """Write the items outside ``seen`` in order of id; return their number."""
    count, cursor = 0, 0
    for item in range(num_items):
        if cursor < len(seen) and seen[cursor] == item:
            cursor += 1
        else:
            allowed[count] = item
            count += 1
    return count


@jit()
def rank_allowed(scores: Floats, allowed: Ints, keys: Ints, spare: Ints, ranks: Ints) -> None:
    """Write the rank (0 best) of each allowed item; a stable radix sort leaves equal scores in order of id."""
    count = len(allowed)
    counters = np.zeros((_PASSES, _BUCKETS), dtype=np.int64)
    mask = np.uint64(_BUCKETS - 1)
    for p in range(count):
        high = np.uint64(descending(scores[allowed[p]]))
        keys[p] = (high << np.uint64(32)) | np.uint64(p)
        for digit in range(_PASSES):
            counters[digit, (high >> np.uint64(_RADIX_BITS * digit)) & mask] += 1
    for digit in range(_PASSES):
        _exclusive_sum(counters[digit])
        shift = np.uint64(32 + _RADIX_BITS * digit)
        for p in range(count):
            key = keys[p]
            bucket = (key >> shift) & mask
            spare[counters[digit, bucket]] = key
            counters[digit, bucket] += 1
        keys, spare = spare, keys
    for r in range(count):
        ranks[keys[r] & np.uint64(0xFFFFFFFF)] = r


@jit()
def rank_listed(row: Ints, allowed: Ints, places: Ints, ranks: Ints) -> None:
    """Write the place (0 best) of each allowed item in a list, its length for the others. ``places``: scratch."""
    places[:] = len(row)
    for j in range(len(row) - 1, -1, -1):
        if 0 <= row[j] < len(places):
            places[row[j]] = j
    for p in range(len(allowed)):
        ranks[p] = places[allowed[p]]


@jit()
def _exclusive_sum(counts: Ints) -> None:
    """Replace counts by the sum of those before."""
    total = 0
    for i in range(len(counts)):
        count = counts[i]
        counts[i] = total
        total += count
