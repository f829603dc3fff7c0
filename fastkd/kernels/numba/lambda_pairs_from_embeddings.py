"""Weighted logistic loss of all pairs of each list from vectors on the CPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, K ids of a user.
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
from fastkd.kernels.numba.lambda_pairs import KINDS, lambda_row, scratch

Floats = NDArray[Any]
Ints = NDArray[Any]

lambda_pairs_from_embeddings_backward = listwise_backward


def lambda_pairs_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, gains: Tensor | None, pair_weights: Tensor | None, weights: str,
    sigma: float, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, K], keys [B, K], unit user gradients [B, D]), empty where not needed."""
    dtype, (rows, width) = compute_dtype(users, items), ids.shape
    users, items, listed = own(users, dtype), own(items, dtype), own(ids, ids.dtype)
    made = results(users, items, width, need_users=need_users, need_items=need_items)
    bad = np.zeros(1, dtype=np.int64)
    run_rows(
        _fused, rows, width * (4 * width + 0.2 * users.shape[1]), table_pair(users, items),
        (listed.data_ptr(), width), LIKE[ids.dtype], optional(gains, dtype), gains is not None,
        optional(pair_weights, dtype), KINDS[weights], float(sigma), need_users or need_items, *made, bad,
    )  # fmt: skip
    if validate and bad[0]:
        refuse("ids", ids, len(items))
    return tensors(made)


@jit()
def _fused(
    tables: Raw, listed: Raw, listed_type: Ints, gains: Floats, graded: bool, pair_weights: Floats, kind: int,
    sigma: float, gradient: bool,
    loss: Floats, coefficients: Floats, keys: Ints, unit_users: Floats, bad: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    users, items = tables_at(tables, loss)
    width = listed[1]
    ids = matrix(listed[0], len(loss), width, listed_type)
    memory = scratch(width, loss)
    row, own_keys = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    values, rows = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    for b in range(start, stop):
        if gradient:
            row = coefficients[b]
        if keys.size:
            own_keys = keys[b]
        if score_list(users[b], items, ids[b], row, own_keys):
            bad[0] = 1
        gain = gains[b] if graded else row[:0]
        loss[b] = lambda_row(row, gain, graded, pair_weights, kind, sigma, gradient, row, memory)
        if unit_users.size:
            sum_list(row, items, own_keys, unit_users[b], rows, values)
