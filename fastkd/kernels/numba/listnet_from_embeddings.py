"""ListNet's cross entropy of each row from vectors on the CPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, C ids of a user.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import compute_dtype
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._listnet import listnet_row
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

Floats = NDArray[Any]
Ints = NDArray[Any]

listnet_from_embeddings_backward = listwise_backward


def listnet_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, temperature: float,
    *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, C], keys [B, C], unit user gradients [B, D]), empty where not needed.

    A key is the id, or -1 for what is no item's.
    """
    dtype, (rows, width) = compute_dtype(users, items), ids.shape
    users, items, listed, teacher = own(users, dtype), own(items, dtype), own(ids, ids.dtype), own(teacher, dtype)
    made = results(users, items, width, need_users=need_users, need_items=need_items)
    bad = np.zeros(1, dtype=np.int64)
    run_rows(
        _fused, rows, width * (10 + 0.2 * users.shape[1]), table_pair(users, items),
        (listed.data_ptr(), width), LIKE[ids.dtype], teacher.data_ptr(), 1.0 / temperature, need_users or need_items,
        *made, bad,
    )  # fmt: skip
    if validate and bad[0]:
        refuse("ids", ids, len(items))
    return tensors(made)


@jit()
def _fused(
    tables: Raw, listed: Raw, listed_type: Ints, teacher_at: int, scale: float, gradient: bool,
    loss: Floats, coefficients: Floats, keys: Ints, unit_users: Floats, bad: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    users, items = tables_at(tables, loss)
    width = listed[1]
    ids, teacher = matrix(listed[0], len(loss), width, listed_type), matrix(teacher_at, len(loss), width, loss)
    memory = np.empty((4, width), dtype=loss.dtype)
    row, own_keys = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    values, rows = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    for b in range(start, stop):
        if gradient:
            row = coefficients[b]
        if keys.size:
            own_keys = keys[b]
        if score_list(users[b], items, ids[b], row, own_keys):
            bad[0] = 1
        loss[b] = listnet_row(row, teacher[b], scale, gradient, row, memory)
        if unit_users.size:
            sum_list(row, items, own_keys, unit_users[b], rows, values)
