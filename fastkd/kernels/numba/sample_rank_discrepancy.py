"""Rank-discrepancy-aware sampling on the CPU: bit for bit the draws of the reference, nothing of size B x N.

A few users at a time: canonical scores from item tiles packed for vector code, ranks by a radix sort of 32-bit
score keys, weights from a table over rank gaps, draws by binary search in their running sum. The definition is in
``fastkd/kernels/reference/sample_rank_discrepancy.py``.

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
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import high_word, philox4x32, uniform_double, word, words_of

Floats = NDArray[Any]
Ints = NDArray[Any]

_TILE = 256
_GROUP = 8
_RADIX_BITS = 11
_PASSES = 3
_BUCKETS = 1 << _RADIX_BITS


def sample_rank_discrepancy(
    teacher: tuple[Tensor, Tensor],
    student: tuple[Tensor, Tensor],
    users: Tensor,
    offsets: NDArray[np.int64],
    indptr: Tensor,
    indices: Tensor,
    table: NDArray[np.float64],
    shifted: bool,
    sign: int,
    key: int,
) -> NDArray[np.int64]:
    """Return the samples Int64[offsets[-1]]; see the reference.

    Memory: a packed copy of both item tables and O(N) per thread.
    """
    samples = np.empty(offsets[-1], dtype=np.int64)
    num_items, ids = len(teacher[1]), users.numpy()
    dtype = torch.float64 if torch.float64 in {t.dtype for t in (*teacher, *student)} else torch.float32
    tables = [t for u, v in (teacher, student) for t in (array(u[users], dtype), _packed(v, dtype))]
    work = 0.2 * num_items * (tables[0].shape[1] + tables[2].shape[1] + 100)
    low, high = words_of(key)
    run_rows(
        _sample_rows, len(ids), work, *tables, num_items, ids, offsets, indptr.numpy(), indices.numpy(), table, shifted,
        sign, low, high, samples,
    )  # fmt: skip
    return samples


def _packed(items: Tensor, dtype: torch.dtype) -> Floats:
    """Return Float[N / W, D, W]: tiles of W items, each dimension's values side by side, zeros past the last item."""
    padded = functional.pad(items, (0, 0, 0, -len(items) % _TILE))
    return array(padded.view(-1, _TILE, items.shape[1]).transpose(1, 2), dtype)


@jit()
def _sample_rows(
    teacher_users: Floats, teacher_items: Floats, student_users: Floats, student_items: Floats, num_items: int,
    users: Ints, offsets: Ints, indptr: Ints, indices: Ints, table: Floats, shifted: bool, sign: int,
    k0: np.uint64, k1: np.uint64, samples: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    teacher_scores = np.empty((_GROUP, num_items), dtype=np.float32)
    student_scores = np.empty((_GROUP, num_items), dtype=np.float32)
    allowed, ranks = np.empty(num_items, dtype=np.int64), np.empty((2, num_items), dtype=np.int64)
    keys, spare = np.empty(num_items, dtype=np.uint64), np.empty(num_items, dtype=np.uint64)
    sums = np.empty(num_items)
    for first in range(start, stop, _GROUP):
        last = min(first + _GROUP, stop)
        _score_group(teacher_users[first:last], teacher_items, teacher_scores)
        _score_group(student_users[first:last], student_items, student_scores)
        for b in range(first, last):
            if offsets[b] == offsets[b + 1]:
                continue
            count = _allowed_items(indices[indptr[b] : indptr[b + 1]], allowed, num_items)
            _rank(teacher_scores[b - first], allowed[:count], keys, spare, ranks[0])
            _rank(student_scores[b - first], allowed[:count], keys, spare, ranks[1])
            _running_sums(ranks[0, :count], ranks[1, :count], table, shifted, sign, sums[:count])
            _draw(users[b], sums[:count], allowed, k0, k1, samples[offsets[b] : offsets[b + 1]])


@jit()
def _score_group(users: Floats, tiles: Floats, scores: Floats) -> None:
    """Write canonical scores Float32[G, N]: float64 sums in order of d, rounded."""
    sums, row = np.empty(_TILE), np.empty(users.shape[1])
    for t in range(len(tiles)):
        for g in range(len(users)):
            row[:] = users[g]
            _score_tile(row, tiles[t], sums)
            out = scores[g, t * _TILE : (t + 1) * _TILE]
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
        for j in range(_TILE):
            total = sums[j] + u0 * np.float64(r0[j])
            total += u1 * np.float64(r1[j])
            total += u2 * np.float64(r2[j])
            sums[j] = total + u3 * np.float64(r3[j])
    for d in range(whole, dim):
        rest = tile[d]
        for j in range(_TILE):
            sums[j] += user[d] * np.float64(rest[j])


@jit()
def _allowed_items(seen: Ints, allowed: Ints, num_items: int) -> int:
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
def _rank(scores: Floats, allowed: Ints, keys: Ints, spare: Ints, ranks: Ints) -> None:
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
def _exclusive_sum(counts: Ints) -> None:
    """Replace counts by the sum of those before."""
    total = 0
    for i in range(len(counts)):
        count = counts[i]
        counts[i] = total
        total += count


@jit()
def _running_sums(teacher: Ints, student: Ints, table: Floats, shifted: bool, sign: int, sums: Floats) -> None:
    """Write the running sum of weights over the allowed items; 1, 2, ... where every weight is 0."""
    least = 0
    if shifted:
        least = sign * (student[0] - teacher[0])
        for p in range(len(sums)):
            least = min(least, sign * (student[p] - teacher[p]))
    total = 0.0
    for p in range(len(sums)):
        total += table[max(sign * (student[p] - teacher[p]) - least, 0)]
        sums[p] = total
    if total == 0.0:
        for p in range(len(sums)):
            sums[p] = p + 1.0


@jit()
def _draw(user: int, sums: Floats, allowed: Ints, k0: np.uint64, k1: np.uint64, out: Ints) -> None:
    """Write one item per slot: the first whose running sum exceeds the slot's uniform times the total."""
    total = sums[-1]
    for slot in range(len(out)):
        w0, w1, _, _ = philox4x32(word(slot), word(user), high_word(user), word(0), k0, k1)
        target = min(uniform_double(w0, w1) * total, np.nextafter(total, 0.0))
        out[slot] = allowed[np.searchsorted(sums, target, side="right")]
