"""Rank-discrepancy sampling on the CPU: the draws of the reference, nothing of size B x N.

Users whose draws need few proposals have only these ranked, by counting sweeps (:mod:`rank_of`). The others, and those
whose pool was too small, have all items ranked, a few users at a time. The stream does not know which.

Shapes: B users, N items, D dimensions, C proposals of a pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels._discrepancy import Rule
from fastkd.kernels.numba import _rank_all
from fastkd.kernels.numba._arrays import array
from fastkd.kernels.numba._discrepancy import NEVER, draw_slots, propose
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.philox import words_of
from fastkd.kernels.numba.rank_of import rank_of
from fastkd.kernels.numba.ranks_within import ranks_within

Floats = NDArray[Any]
Ints = NDArray[Any]
Model = tuple[Tensor, Tensor | None]

_NO_LISTS = np.empty((0, 0), dtype=np.int64)
_NO_TILES = np.empty((0, 0, _rank_all.TILE), dtype=np.float32)
_POOL_CELLS = 1 << 21
_POOL_SHARE = 200
"""A pool pays where it is at most this part of the catalogue: measured, a 60th to a 180th for random models, a 600th
for models that agree, where more proposals lie closer to other items than a product in float32 tells apart."""


def sample_rank_discrepancy(
    teacher: Model, student: Model, ids: Tensor, offsets: Tensor, total: int, most: int, indptr: Tensor,
    indices: Tensor, num_items: int, how: Rule,
) -> Tensor:  # fmt: skip
    """Return the samples Int64[total]; see the reference.

    Memory: about 100 MB of proposals, or a packed copy of both item tables and O(N) per thread.
    """
    samples = np.empty(total, dtype=np.int64)
    starts = offsets.numpy()
    models = [_promoted(*teacher), _promoted(*student)]
    rows, seen = indptr.numpy(), indices.numpy()
    counts = np.diff(starts)
    need = _pool_sizes(counts, np.diff(rows), num_items, how)
    pooled = np.flatnonzero((counts > 0) & (need * _POOL_SHARE <= num_items) & how.rejects)
    left = np.ones(len(counts), dtype=bool)
    pooled = pooled[np.argsort(need[pooled], kind="stable")]
    for block in _blocks(need[pooled]):
        part = pooled[block]
        size = int(need[part[-1]])
        left[part] = ~_draw_from_pool(models, part, size, ids.numpy(), starts, rows, seen, num_items, how, samples)
    rest = np.flatnonzero(left & (counts > 0))
    if len(rest):
        _draw_from_all(models, rest, ids.numpy(), starts, rows, seen, num_items, how, samples)
    return torch.from_numpy(samples)


def _promoted(users: Tensor, items: Tensor | None) -> Model:
    if items is None:
        return users.to(torch.int64).contiguous(), None
    dtype = torch.float64 if torch.float64 in (users.dtype, items.dtype) else torch.float32
    return users.to(dtype).contiguous(), items.to(dtype).contiguous()


def _pool_sizes(counts: Ints, degrees: Ints, num_items: int, how: Rule) -> Ints:
    """Return Int64[B], how many proposals nearly always suffice."""
    floor = how.floor * np.maximum(1.0 - degrees / max(num_items, 1), 1e-3)
    return np.ceil((1.2 * counts + 6.0 * (np.sqrt(counts) + 1.0)) / floor).astype(np.int64)


def _blocks(need: Ints) -> Iterator[slice]:
    """Cut ascending pool sizes into blocks of similar size that fit in memory."""
    start = 0
    while start < len(need):
        stop = int(np.searchsorted(need, need[start] * 1.25 + 32, side="right"))
        while (stop - start) * need[stop - 1] > _POOL_CELLS and stop > start + 1:
            stop = start + max(1, (stop - start) // 2)
        yield slice(start, stop)
        start = stop


def _draw_from_pool(
    models: list[Model], part: Ints, size: int, users: Ints, starts: Ints, rows: Ints, seen: Ints, num_items: int,
    how: Rule, samples: Ints,
) -> NDArray[np.bool_]:  # fmt: skip
    """Draw the users ``part`` from the ranks of their first ``size`` proposals; return for whom that was enough."""
    lengths = np.diff(rows)[part]
    indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    indices = seen[np.arange(indptr[-1]) + np.repeat(rows[part] - indptr[:-1], lengths)]
    pool = np.empty((len(part), size), dtype=np.int64)
    low, high = words_of(how.key)
    run_rows(propose, len(part), 30.0 * size, users[part], indptr, indices, num_items, low, high, pool)
    history = torch.from_numpy(indptr), torch.from_numpy(indices)
    where, proposed = torch.from_numpy(part), torch.from_numpy(pool)
    ranks = [
        (ranks_within(proposed, u[where]) if v is None else rank_of(u[where], v, proposed, *history, None)).numpy()
        for u, v in models
    ]
    done = np.empty(len(part), dtype=np.bool_)
    run_rows(
        _take_rows, len(part), 30.0 * size, pool, *ranks, part, users, starts, num_items, how.table.cpu().numpy(),
        how.bits, how.relative, how.replacement, how.sign, low, high, samples, done,
    )  # fmt: skip
    return done


@jit()
def _take_rows(
    pool: Ints, teacher: Ints, student: Ints, part: Ints, users: Ints, starts: Ints, num_items: int, table: Ints,
    bits: int, relative: bool, replacement: bool, sign: int, k0: np.uint64, k1: np.uint64, samples: Ints,
    done: NDArray[np.bool_], start: int, stop: int,
) -> None:  # fmt: skip
    gaps, nothing = np.empty(pool.shape[1], dtype=np.int64), np.empty(0, dtype=np.int64)
    for r in range(start, stop):
        for t in range(len(gaps)):
            gaps[t] = NEVER if pool[r, t] < 0 else sign * (student[r, t] - teacher[r, t])
        b = part[r]
        done[r] = draw_slots(
            users[b], samples[starts[b] : starts[b + 1]], gaps, False, num_items, nothing, table, bits, relative,
            True, replacement, k0, k1,
        )  # fmt: skip


def _draw_from_all(
    models: list[Model], part: Ints, users: Ints, starts: Ints, rows: Ints, seen: Ints, num_items: int, how: Rule,
    samples: Ints,
) -> None:  # fmt: skip
    """Draw the users ``part`` from the ranks of all items."""
    where = torch.from_numpy(part)
    tables: list[Any] = []
    for u, v in models:
        if v is None:
            tables += [np.empty((len(part), 0), np.float32), _NO_TILES, u[where].numpy()]
        else:
            tables += [array(u[where], v.dtype), _rank_all.packed(v, v.dtype), _NO_LISTS]
    work = 0.2 * num_items * (tables[0].shape[1] + tables[3].shape[1] + 100)
    low, high = words_of(how.key)
    run_rows(
        _all_rows, len(part), work, *tables, num_items, part, users, starts, rows, seen, how.table.cpu().numpy(),
        how.bits, how.relative, how.rejects, how.replacement, how.sign, low, high, samples,
    )  # fmt: skip


@jit()
def _all_rows(
    teacher_users: Floats, teacher_items: Floats, teacher_lists: Ints,
    student_users: Floats, student_items: Floats, student_lists: Ints, num_items: int,
    part: Ints, users: Ints, starts: Ints, rows: Ints, seen: Ints, table: Ints, bits: int, relative: bool,
    rejects: bool, replacement: bool, sign: int, k0: np.uint64, k1: np.uint64, samples: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    group = _rank_all.GROUP
    teacher_scores = np.empty((group, num_items if len(teacher_items) else 0), dtype=np.float32)
    student_scores = np.empty((group, num_items if len(student_items) else 0), dtype=np.float32)
    allowed, ranks = np.empty(num_items, dtype=np.int64), np.empty((2, num_items), dtype=np.int64)
    keys, spare = np.empty(num_items, dtype=np.uint64), np.empty(num_items, dtype=np.uint64)
    gaps, sums = np.empty(num_items, dtype=np.int64), np.empty(num_items, dtype=np.int64)
    for first in range(start, stop, group):
        last = min(first + group, stop)
        _rank_all.score_group(teacher_users[first:last], teacher_items, teacher_scores)
        _rank_all.score_group(student_users[first:last], student_items, student_scores)
        for r in range(first, last):
            b = part[r]
            count = _rank_all.allowed_items(seen[rows[b] : rows[b + 1]], allowed, num_items)
            if len(teacher_lists):
                _rank_all.rank_listed(teacher_lists[r], allowed[:count], sums, ranks[0])
            else:
                _rank_all.rank_allowed(teacher_scores[r - first], allowed[:count], keys, spare, ranks[0])
            if len(student_lists):
                _rank_all.rank_listed(student_lists[r], allowed[:count], sums, ranks[1])
            else:
                _rank_all.rank_allowed(student_scores[r - first], allowed[:count], keys, spare, ranks[1])
            gaps[:] = NEVER
            for p in range(count):
                gaps[allowed[p]] = sign * (ranks[1, p] - ranks[0, p])
            draw_slots(
                users[b], samples[starts[b] : starts[b + 1]], gaps, True, num_items, sums, table, bits, relative,
                rejects, replacement, k0, k1,
            )  # fmt: skip
