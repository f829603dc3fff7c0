"""Running top-K over chunks of scores on the CPU: each row's chunk streams past its K-th best key.

Shapes: B rows, C items in the chunk, K results.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._select import MAX_ITEMS, key_item, key_score, make_key, select_smallest
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

_GROUP = 64


def score_topk_chunked(
    best_scores: Tensor, best_ids: Tensor, scores: Tensor, first: int, indptr: Tensor | None, indices: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return Float32[B, K] and Int64[B, K]; see ``fastkd/kernels/reference/score_topk_chunked.py``."""
    rows, width = scores.shape
    if first + width > MAX_ITEMS:
        raise ValueError(
            f"backend 'numba' ranks at most {MAX_ITEMS} items, got {first + width}; use backend='reference'"
        )
    out_scores, out_ids = torch.empty_like(best_scores), torch.empty_like(best_ids)
    pointers = np.zeros(rows + 1, dtype=np.int64) if indptr is None else indptr.numpy()
    seen = np.zeros(0, dtype=np.int32) if indices is None else indices.numpy()
    values = scores.detach().contiguous().numpy()
    arrays = best_scores.contiguous().numpy(), best_ids.contiguous().numpy(), values, first, pointers, seen
    work = 10 + 0.1 * width + 20 * best_ids.shape[1]
    run_rows(_merge_rows, rows, work, *arrays, out_scores.numpy(), out_ids.numpy())
    return out_scores, out_ids


@jit()
def _merge_rows(
    best_scores: Floats, best_ids: Ints, scores: Floats, first: int, indptr: Ints, seen: Ints,
    out_scores: Floats, out_ids: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    k = best_ids.shape[1]
    keys = np.empty(2 * k + _GROUP, dtype=np.uint64)
    for b in range(start, stop):
        count = 0
        while count < k and best_ids[b, count] >= 0:
            keys[count] = make_key(best_scores[b, count], best_ids[b, count])
            count += 1
        if k > 0:
            count = _merge_row(keys, count, k, scores[b], first, seen[indptr[b] : indptr[b + 1]])
        keys[:count].sort()
        for j in range(k):
            out_scores[b, j] = key_score(keys[j]) if j < count else np.float32(-np.inf)
            out_ids[b, j] = key_item(keys[j]) if j < count else -1


@jit()
def _merge_row(keys: NDArray[np.uint64], count: int, k: int, row: Floats, first: int, seen: Ints) -> int:
    """Append what beats the K-th best key; whole groups behind it are passed over by a count of scores."""
    worst = ~np.uint64(0)
    if count >= k:
        worst = keys[k - 1]
    cursor = np.searchsorted(seen, first)
    for start in range(0, len(row), _GROUP):
        group = row[start : start + _GROUP]
        bound = key_score(worst)
        hits = np.int32(0)
        for j in range(len(group)):
            hits = np.int32(hits + np.int32(not (group[j] <= bound)))
        if hits == 0:
            continue
        while cursor < len(seen) and seen[cursor] < first + start:
            cursor += 1
        for j in range(len(group)):
            item = first + start + j
            if cursor < len(seen) and seen[cursor] == item:
                cursor += 1
                continue
            key = make_key(group[j], item)
            if key < worst:
                if count == len(keys):
                    worst = select_smallest(keys, count, k)
                    count = k
                keys[count] = key
                count += 1
    if count > k:
        select_smallest(keys, count, k)
    return min(count, k)
