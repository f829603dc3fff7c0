"""Relaxed Plackett-Luce loss of each row from vectors on the CPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, K ranked, L unranked, W = K + L.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import compute_dtype, optional
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._listwise import (
    Made,
    listwise_backward,
    refuse,
    results,
    score_list,
    sum_list,
    table_pair,
    tables_at,
    tensors,
)
from fastkd.kernels.numba._raw import LIKE, Raw, matrix, own
from fastkd.kernels.numba._relaxed_ranking import relaxed_ranking_row, scratch
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

relaxed_ranking_from_embeddings_backward = listwise_backward


def relaxed_ranking_from_embeddings(
    users: Tensor, items: Tensor, ranked_ids: Tensor, unranked_ids: Tensor, weights: Tensor | None,
    *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]), empty where not needed.

    A key is the id, or -1 for what is no item's.
    """
    dtype, (rows, ranked), unranked = compute_dtype(users, items), ranked_ids.shape, unranked_ids.shape[1]
    users, items = own(users, dtype), own(items, dtype)
    first, second = own(ranked_ids, ranked_ids.dtype), own(unranked_ids, unranked_ids.dtype)
    made = results(users, items, ranked + unranked, need_users=need_users, need_items=need_items)
    bad = np.zeros(1, dtype=np.int64)
    work = 10 * ranked + (ranked + unranked) * (6 + 0.2 * users.shape[1])
    run_rows(
        _fused, rows, work, table_pair(users, items), (first.data_ptr(), ranked), LIKE[first.dtype],
        (second.data_ptr(), unranked), LIKE[second.dtype], optional(weights, dtype), weights is not None,
        need_users or need_items, *made, bad,
    )  # fmt: skip
    if validate and bad[0]:
        refuse("ranked_ids", ranked_ids, len(items))
        refuse("unranked_ids", unranked_ids, len(items))
    return tensors(made)


@jit()
def _fused(
    tables: Raw, ranked: Raw, ranked_type: Ints, unranked: Raw, unranked_type: Ints, weights: Floats, weighted: bool,
    gradient: bool,
    loss: Floats, coefficients: Floats, keys: Ints, unit_users: Floats, bad: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    users, items = tables_at(tables, loss)
    length, width = ranked[1], ranked[1] + unranked[1]
    ranked_ids = matrix(ranked[0], len(loss), length, ranked_type)
    unranked_ids = matrix(unranked[0], len(loss), width - length, unranked_type)
    memory = scratch(length, width - length)
    row, own_keys = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    values, rows = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    for b in range(start, stop):
        if gradient:
            row = coefficients[b]
        if keys.size:
            own_keys = keys[b]
        wrong = score_list(users[b], items, ranked_ids[b], row[:length], own_keys[:length])
        if wrong + score_list(users[b], items, unranked_ids[b], row[length:], own_keys[length:]):
            bad[0] = 1
        weight = weights[b] if weighted else row[:0]
        loss[b] = relaxed_ranking_row(
            row[:length], row[length:], weight, weighted, gradient, row[:length], row[length:], memory
        )
        if unit_users.size:
            sum_list(row, items, own_keys, unit_users[b], rows, values)
