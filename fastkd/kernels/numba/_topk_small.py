"""A few users ranked over a catalogue that one tile holds: everything in one kernel, as a server asks for it.

The same filter, margins and canonical scores as for many users, without what it takes to cut work into blocks, spans
and tiles, a tenth of a millisecond. What the filter cannot decide is left to the caller.

Shapes: B users, N items, D dimensions, K results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._product import multiplies, multiply_rows
from fastkd.kernels.numba._simd import ROWS
from fastkd.kernels.numba._topk_exact import NO_OFFSETS, finish_rows
from fastkd.kernels.numba._topk_few import score_one, score_users
from fastkd.kernels.numba._topk_filter import compact_rows, filter_tile
from fastkd.kernels.numba._topk_margin import largest_finite, largest_square, margins_at, norm_bound, norms_of, terms
from fastkd.kernels.numba._topk_plan import LANES, SLACK, few_of, is_small

Floats = NDArray[Any]
Ints = NDArray[Any]

_NO_ROWS = np.zeros(0, dtype=np.int64)
_NOTHING = np.zeros(0, dtype=np.int32)
_NO_BIAS = np.zeros(0, dtype=np.float32)


def rank_small(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Return (scores Float32[B, K], ids Int64[B, K]), or None where the way for many users has to do it."""
    count, (num_items, dim) = len(users), items.shape
    if items.dtype not in (torch.float32, torch.float64) or not items.is_contiguous():
        return None
    if not is_small(count, num_items, dim, items.element_size(), torch.get_num_threads()):
        return None
    rows = _NO_ROWS if indptr is None else indptr.numpy()
    seen = _NOTHING if indices is None else indices.numpy()
    offsets = _NO_BIAS if bias is None else bias.to(torch.float32).contiguous().numpy()
    scores, ids = np.empty((count, k), dtype=np.float32), np.empty((count, k), dtype=np.int64)
    own = multiplies(items.dtype) and count > few_of(dim, own=True)
    if not _rank(users.contiguous().numpy(), items.numpy(), rows, seen, offsets, own, scores, ids):
        return None
    return torch.from_numpy(scores), torch.from_numpy(ids)


@jit()
def _rank(
    users: Floats, items: Floats, rows: Ints, seen: Ints, bias: Floats, own: bool, scores: Floats, ids: Ints
) -> bool:
    """Write the best K of each user; return False where the filter cannot decide for one."""
    (count, k), num_items = ids.shape, len(items)
    if len(rows) == 0:
        rows = np.zeros(count + 1, dtype=np.int64)
    tile = np.empty((count, -(-num_items // LANES) * LANES), dtype=items.dtype)
    tile[:, num_items:] = -np.inf
    square = _scores(users, items, own, tile[:, :num_items])
    margins = _margins(users, square, items.itemsize == 8, bias)
    capacity = min(3 * k + SLACK, num_items + LANES)
    keys, counts = np.empty((count, capacity), dtype=np.uint64), np.zeros(count, dtype=np.int64)
    limits = np.full(count, min(capacity, k + max(2 * k, 2 * LANES)))
    worst, least = np.full(count, -np.inf, dtype=np.float32), np.empty(count, dtype=np.int64)
    filter_tile(tile, 0, num_items, k, rows, seen, bias, margins, worst, keys, counts, limits)
    compact_rows(keys, counts, k, margins)
    for b in range(count):
        least[b] = min(k, num_items - (rows[b + 1] - rows[b]))
        if counts[b] < least[b]:
            return False
    finish_rows(keys, counts, least, users, items, NO_OFFSETS, bias, scores, ids)
    return True


@jit()
def _scores(users: Floats, items: Floats, own: bool, out: Floats) -> float:
    """Write the products in the tables' dtype; return the largest square of an item's norm, inf if one is NaN."""
    if own:
        multiply_rows(users, items, out)
        return largest_square(items)
    if len(users) == 1:
        return score_one(users[0], items, out[0])
    padded = np.zeros((len(users), -(-users.shape[1] // ROWS) * ROWS), dtype=users.dtype)
    padded[:, : users.shape[1]] = users
    return score_users(padded, items, out)


@jit()
def _margins(users: Floats, square: float, double: bool, bias: Floats) -> Floats:
    """Return Float64[B], how far each user's scores can stray; ``square``: of the longest item, in the tables' dtype.

    No product here is narrowed, as torch.mm's may be.
    """
    dim = users.shape[1]
    relative, tiny, usable = terms(dim, double)
    top = norm_bound(square, dim, double)
    return margins_at(norms_of(users), top, relative, largest_finite(bias), tiny, usable)
