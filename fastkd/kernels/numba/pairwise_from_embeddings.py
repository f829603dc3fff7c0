"""Pairwise losses of each row from vectors on the CPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, n negatives of a user, W = 1 + n with the positive first.
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
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.pairwise import pairwise_row

Floats = NDArray[Any]
Ints = NDArray[Any]

pairwise_from_embeddings_backward = listwise_backward


def pairwise_from_embeddings(
    users: Tensor, items: Tensor, positive_ids: Tensor, negative_ids: Tensor, weights: Tensor | None, loss: str,
    margin: float, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]), empty where not needed."""
    dtype, (rows, width) = compute_dtype(users, items), negative_ids.shape
    users, items = own(users, dtype), own(items, dtype)
    first, others = own(positive_ids, positive_ids.dtype), own(negative_ids, negative_ids.dtype)
    made = results(users, items, 1 + width, need_users=need_users, need_items=need_items)
    bad = np.zeros(1, dtype=np.int64)
    run_rows(
        _fused, rows, (1 + width) * (8 + 0.2 * users.shape[1]), table_pair(users, items), first.data_ptr(),
        LIKE[first.dtype], (others.data_ptr(), width), LIKE[others.dtype], optional(weights, dtype),
        weights is not None, loss == "margin", float(margin), need_users or need_items, *made, bad,
    )  # fmt: skip
    if validate and bad[0]:
        refuse("positive_ids", positive_ids, len(items))
        refuse("negative_ids", negative_ids, len(items))
    return tensors(made)


@jit()
def _fused(
    tables: Raw, positives_at: int, positive_type: Ints, negatives: Raw, negative_type: Ints, weights: Floats,
    weighted: bool, hinge: bool, margin: float, gradient: bool,
    loss: Floats, coefficients: Floats, keys: Ints, unit_users: Floats, bad: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    users, items = tables_at(tables, loss)
    positive_ids = matrix(positives_at, len(loss), 1, positive_type)
    negative_ids = matrix(negatives[0], len(loss), negatives[1], negative_type)
    width = 1 + negatives[1]
    memory = np.empty((2, width), dtype=loss.dtype)
    row, own_keys = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    values, rows = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    for b in range(start, stop):
        if gradient:
            row = coefficients[b]
        if keys.size:
            own_keys = keys[b]
        wrong = score_list(users[b], items, positive_ids[b], row[:1], own_keys[:1])
        if wrong + score_list(users[b], items, negative_ids[b], row[1:], own_keys[1:]):
            bad[0] = 1
        weight = weights[b] if weighted else row[:0]
        loss[b], slope = pairwise_row(row[0], row[1:], weight, weighted, hinge, margin, gradient, row[1:], memory)
        if gradient:
            row[0] = slope
        if unit_users.size:
            sum_list(row, items, own_keys, unit_users[b], rows, values)
