"""Exact masked top-K on the CPU: a float32 product proposes, a proved margin keeps, a canonical score decides.

Users x items tiles of filter scores are filtered against each user's running K-th best score, less twice a bound on
how far a filter score can stray from the canonical one. What passes is re-scored canonically (float64, in order of d)
and sorted, so block shapes, the order of tiles and threads leave no trace in the result. A row that the filter
cannot decide (more ties than its buffer holds, values that overflow, NaN) is ranked by canonical scores throughout.

Shapes: B users, N items, D dimensions, K results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._product import Users, multiplies, multiply, new_panel, ready
from fastkd.kernels.numba._select import MAX_ITEMS, Keys, select_smallest, write_row
from fastkd.kernels.numba._topk_exact import NO_OFFSETS, finish_rows, merge_tile, score_tile
from fastkd.kernels.numba._topk_few import score_few
from fastkd.kernels.numba._topk_filter import compact_rows, filter_tile
from fastkd.kernels.numba._topk_margin import Margins, largest_norm, margins_of, norms_of
from fastkd.kernels.numba._topk_plan import LANES, Plan, plan_rank_topk, spans_of, tile_order
from fastkd.kernels.numba._topk_scan import scan_tile, scan_tiles
from fastkd.kernels.numba._topk_small import rank_small

Floats = NDArray[Any]
Ints = NDArray[Any]
Span = tuple[int, int]
Found = tuple[Keys, Ints]

_WIDE = (torch.float32, torch.float64)
_GATHER_BYTES = 16 << 20
_ITEM = np.uint64(0xFFFFFFFF)


def rank_topk(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    fast: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return (scores Float32[B, K], ids Int64[B, K]); see :func:`fastkd.ops.rank_topk`.

    ``indptr`` Int64[B + 1] and ``indices``: items to leave out, row b for ``users[b]``. ``fast``: of the vectors
    rounded to bfloat16. Memory beyond the arguments: O(K) per user of a block and a tile per thread.
    """
    count, num_items = len(users), len(items)
    if num_items > MAX_ITEMS:
        raise ValueError(f"backend 'numba' ranks at most {MAX_ITEMS} items, got {num_items}; use backend='reference'")
    if count > 0 and k > 0 and not fast:
        found = rank_small(users, items, k, indptr, indices, bias)
        if found is not None:
            return found
    scores, ids = torch.empty((count, k), dtype=torch.float32), torch.empty((count, k), dtype=torch.int64)
    if count == 0 or k == 0:
        return scores, ids
    job = _job_of(users, items, k, indptr, indices, bias, fast)
    spans = spans_of(num_items, job.plan.spans)
    _blocks(job, lambda part: _rank_block(job, part, spans, scores[part].numpy(), ids[part].numpy()))
    return scores, ids


def count_candidates(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    fast: bool = False,
) -> tuple[Ints, Floats]:  # fmt: skip
    """Return what :func:`rank_topk` with these arguments re-scores for each user, and the margin it filters with.

    Int64[B], N for a user whom the filter leaves undecided; Float64[B] in scores, inf where there is no margin.
    """
    job = _job_of(users, items, k, indptr, indices, bias, fast)
    spans = spans_of(len(items), job.plan.spans)
    counts = np.empty(len(users), dtype=np.int64)

    def count(part: slice) -> None:
        _, found = _each(spans, lambda span: _filter_span(job, part, span))
        counts[part] = np.where(found < job.least(part), len(items), found)

    _blocks(job, count)
    vectors = (job.tile(first, last).numpy() for first, last in tile_order(0, len(items), job.plan.width))
    return counts, job.margins.at(max((largest_norm(part) for part in vectors), default=0.0))


def _job_of(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None, fast: bool
) -> _Job:
    count, dim = users.shape
    vectors = widened(users, fast=fast)
    rows = np.zeros(count + 1, dtype=np.int64) if indptr is None else indptr.numpy()
    seen = np.zeros(0, dtype=np.int32) if indices is None else indices.numpy()
    offsets = np.zeros(0, dtype=np.float32) if bias is None else bias.detach().to(torch.float32).contiguous().numpy()
    margins = margins_of(norms_of(vectors.numpy()), dim, vectors.dtype, offsets)
    threads, own = torch.get_num_threads(), multiplies(vectors.dtype)
    plan = plan_rank_topk(count, len(items), dim, k, vectors.element_size(), threads, own=own)
    return _Job(vectors, items.detach(), k, fast, rows, seen, offsets, margins, plan)


def _blocks(job: _Job, work: Callable[[slice], None]) -> None:
    """Run ``work`` on every block of users, side by side where blocks are what threads share."""
    count, plan = len(job.users), job.plan
    starts = range(0, count, plan.block)

    def run(start: int) -> None:
        work(slice(start, min(start + plan.block, count)))

    if plan.spans > 1 or plan.threads == 1:
        for start in starts:
            run(start)
    else:
        run_blocks(run, starts)


def widened(table: Tensor, *, fast: bool) -> Tensor:
    """Return contiguous float32 or float64 values; half precisions widen exactly, ``fast`` rounds to bfloat16 first.

    A float64 value becomes float32 on its way to bfloat16, as in ``table.float().bfloat16()``.
    """
    values = table.detach()
    if fast:
        values = values.float().bfloat16()
    return (values if values.dtype in _WIDE else values.float()).contiguous()


@dataclass(frozen=True)
class _Job:
    """The arguments of a call, as kernels take them."""

    users: Tensor
    items: Tensor
    k: int
    fast: bool
    rows: Ints
    seen: Ints
    bias: Floats
    margins: Margins
    plan: Plan

    def direct(self) -> bool:
        """Return whether kernels can read the item table where it lies."""
        return not self.fast and self.items.dtype in _WIDE and self.items.is_contiguous()

    def least(self, part: slice) -> Ints:
        """Return how many items each user of ``part`` gets: K, or all he is allowed."""
        allowed: Ints = np.minimum(self.k, len(self.items) - np.diff(self.rows[part.start : part.stop + 1]))
        return allowed

    def tile(self, first: int, last: int) -> Tensor:
        """Return the vectors of items [first, last), contiguous float32 or float64: a view where it can be one."""
        return widened(self.items[first:last], fast=self.fast)


def _rank_block(job: _Job, part: slice, spans: list[Span], scores: Floats, ids: Ints) -> None:
    """Rank the users of ``part``: filter each span, re-score, then rank exactly whom the filter left undecided."""
    keys, counts = _each(spans, lambda span: _filter_span(job, part, span))
    undecided = _finish(job, part, keys, counts, scores, ids)
    if len(undecided) == 0:
        return
    keys, counts = _each(spans, lambda span: _rank_span(job, undecided + part.start, span))
    for row, b in enumerate(undecided):
        if counts[row] > job.k:
            select_smallest(keys[row], counts[row], job.k)
        write_row(keys[row], min(counts[row], job.k), scores[b], ids[b])


def _each(spans: list[Span], work: Callable[[Span], Found]) -> Found:
    """Run ``work`` on every span, in parallel if there are several; return the candidates side by side."""
    if len(spans) == 1:
        return work(spans[0])
    found: list[Found | None] = [None] * len(spans)

    def run(i: int) -> None:
        found[i] = work(spans[i])

    run_blocks(run, range(len(spans)))
    parts = [part for part in found if part is not None]
    counts = np.stack([part[1] for part in parts])
    together = np.where((counts < 0).any(axis=0), -1, counts.sum(axis=0))
    keys = np.empty((len(together), max(int(together.max(initial=0)), 1)), dtype=np.uint64)
    for b in np.flatnonzero(together >= 0):
        keys[b, : together[b]] = np.concatenate([part[0][b, : part[1][b]] for part in parts])
    return keys, together


def _filter_span(job: _Job, part: slice, span: Span) -> Found:
    """Stream a span of the catalogue past a block of users; return candidate keys and counts (-1: undecided)."""
    users, plan = job.users[part], job.plan
    count, top = len(users), 0.0
    margins = job.margins.part(part)
    bounds = margins.at(top)
    factor = ready(users) if count > plan.few else Users(users, None)
    panel = new_panel(users.shape[1])
    buffer = torch.empty(count * plan.width, dtype=users.dtype)
    keys, counts = np.empty((count, plan.capacity), dtype=np.uint64), np.zeros(count, dtype=np.int64)
    limits = np.full(count, min(plan.capacity, job.k + max(2 * job.k, 2 * LANES)))
    worst = np.full(count, -np.inf, dtype=np.float32)
    rows, tiles, opened = job.rows[part.start : part.stop + 1], list(tile_order(*span, plan.width)), False
    for first, last in tiles:
        width, padded = last - first, -(-(last - first) // LANES) * LANES
        vectors = job.tile(first, last)
        if factor.packed is not None and opened:
            top = scan_tile(
                factor.packed, vectors.numpy(), first, job.k, rows, job.seen, job.bias, panel,
                margins.norms, top, margins.terms, bounds, worst, keys, counts, limits,
            )  # fmt: skip
            continue
        tile = buffer[: count * padded].view(count, padded)
        if width < padded:
            tile[:, width:] = -torch.inf
        norm = _products(factor, vectors, tile[:, :width], plan.few)
        if not norm <= top:
            top = norm
            bounds = margins.at(top)
        filter_tile(
            tile.numpy(), first, width, job.k, rows, job.seen, job.bias, bounds, worst, keys, counts, limits
        )  # fmt: skip
        opened = True
        if factor.packed is not None and job.direct():
            scan_tiles(
                factor.packed, job.items.numpy(), np.array(tiles[1:]).reshape(-1, 2), job.k, rows, job.seen, job.bias,
                panel, margins.norms, top, margins.terms, bounds, worst, keys, counts, limits,
            )  # fmt: skip
            break
    compact_rows(keys, counts, job.k, bounds)
    return keys, counts


def _products(users: Users, vectors: Tensor, out: Tensor, few: int) -> float:
    """Write the products of users and a tile's items; return a bound on the norms of the items."""
    if len(users.vectors) <= few:
        return score_few(users.vectors.numpy(), vectors.numpy(), out.numpy())
    multiply(users, vectors, out)
    return largest_norm(vectors.numpy())


def _finish(job: _Job, part: slice, keys: Keys, counts: Ints, scores: Floats, ids: Ints) -> Ints:
    """Re-score each user's candidates and write his best K; return the rows that are still undecided."""
    users, table = job.users[part].numpy(), job.items
    least = job.least(part)
    undecided = np.flatnonzero(counts < least)
    if job.direct():
        finish_rows(keys, counts, least, users, table.numpy(), NO_OFFSETS, job.bias, scores, ids)
        return undecided
    found = np.where(counts < least, 0, counts)
    ends = np.cumsum(found)
    most = max(1, _GATHER_BYTES // (max(users.shape[1], 1) * users.itemsize))
    start = 0
    while start < len(users):
        stop = max(start + 1, int(np.searchsorted(ends, ends[start] - found[start] + most, side="right")))
        rows = slice(start, stop)
        picked = [keys[b, : found[b]] for b in range(start, stop)]
        wanted = torch.from_numpy((np.concatenate(picked) & _ITEM).astype(np.int64))
        vectors = widened(table.index_select(0, wanted), fast=job.fast)
        offsets = ends[rows] - found[rows] - (ends[start] - found[start])
        finish_rows(
            keys[rows], counts[rows], least[rows], users[rows], vectors.numpy(), offsets, job.bias,
            scores[rows], ids[rows],
        )  # fmt: skip
        start = stop
    return undecided


def _rank_span(job: _Job, users: Ints, span: Span) -> Found:
    """Rank ``users`` by canonical scores of every item of a span; return their best K keys."""
    plan, count = job.plan, len(users)
    vectors = job.users[torch.from_numpy(users)].numpy()
    keys, counts = np.empty((count, plan.capacity), dtype=np.uint64), np.zeros(count, dtype=np.int64)
    worst = np.full(count, ~np.uint64(0), dtype=np.uint64)
    tile = np.empty((count, plan.width), dtype=np.float32)
    for first, last in tile_order(*span, plan.width):
        score_tile(vectors, job.tile(first, last).numpy(), first, job.bias, tile)
        merge_tile(tile, first, last - first, job.k, users, job.rows, job.seen, keys, counts, worst)
    return keys, counts
