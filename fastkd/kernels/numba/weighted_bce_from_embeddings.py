"""Binary cross entropy of each row from vectors on the CPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, C ids of a user.
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
from fastkd.kernels.numba.weighted_bce import bce_row, scratch

Floats = NDArray[Any]
Ints = NDArray[Any]

weighted_bce_from_embeddings_backward = listwise_backward


def weighted_bce_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, targets: Tensor, weights: Tensor | None,
    *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, C], keys [B, C], unit user gradients [B, D]), empty where not needed.

    A key is the id, or -1 for what is no item's.
    """
    return bce_of_list(
        users, items, ids, targets, weights, None, validate=validate, need_users=need_users, need_items=need_items
    )


def bce_of_list(
    users: Tensor, items: Tensor, ids: Tensor, targets: Tensor, weights: Tensor | None,
    teacher: tuple[float, float] | None, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Run the kernel; with ``teacher`` = (1 / temperature, shift), targets are the teacher's scores."""
    dtype, (rows, width) = compute_dtype(users, items), ids.shape
    users, items, listed, targets = own(users, dtype), own(items, dtype), own(ids, ids.dtype), own(targets, dtype)
    made = results(users, items, width, need_users=need_users, need_items=need_items)
    bad = np.zeros(1, dtype=np.int64)
    scale, shift = teacher or (1.0, 0.0)
    run_rows(
        _fused, rows, width * (8 + 0.2 * users.shape[1]), table_pair(users, items),
        (listed.data_ptr(), width), LIKE[ids.dtype], targets.data_ptr(), optional(weights, dtype), weights is not None,
        teacher is not None, float(scale), float(shift), need_users or need_items, *made, bad,
    )  # fmt: skip
    if validate and bad[0]:
        refuse("ids", ids, len(items))
    return tensors(made)


@jit()
def _fused(
    tables: Raw, listed: Raw, listed_type: Ints, targets_at: int, weights: Floats, weighted: bool, teacher: bool,
    scale: float, shift: float, gradient: bool,
    loss: Floats, coefficients: Floats, keys: Ints, unit_users: Floats, bad: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    users, items = tables_at(tables, loss)
    width = listed[1]
    ids, targets = matrix(listed[0], len(loss), width, listed_type), matrix(targets_at, len(loss), width, loss)
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
        weight = weights[b] if weighted else row[:0]
        loss[b] = bce_row(row, targets[b], weight, weighted, teacher, scale, shift, gradient, row, memory)
        if unit_users.size:
            sum_list(row, items, own_keys, unit_users[b], rows, values)
