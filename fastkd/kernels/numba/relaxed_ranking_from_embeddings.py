"""Relaxed Plackett-Luce loss of each row from vectors on the CPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, K ranked, L unranked, W = K + L.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new, optional
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._listwise import key_dtype, listwise_backward, refuse, score_list, sum_list
from fastkd.kernels.numba._relaxed_ranking import relaxed_ranking_row, scratch
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

relaxed_ranking_from_embeddings_backward = listwise_backward


def relaxed_ranking_from_embeddings(
    users: Tensor, items: Tensor, ranked_ids: Tensor, unranked_ids: Tensor, weights: Tensor | None,
    *, validate: bool, need_users: bool, need_items: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]), empty where not needed.

    A key is the id, or -1 for what is no item's.
    """
    dtype, gradient = compute_dtype(users, items), need_users or need_items
    rows, ranked, unranked = len(users), ranked_ids.shape[1], unranked_ids.shape[1]
    loss = new((rows,), dtype)
    coefficients = new((rows, ranked + unranked) if gradient else (0, 0), dtype)
    keys = np.empty((rows, ranked + unranked) if need_items else (0, 0), dtype=key_dtype(len(items)))
    unit_users = new(users.shape if need_users else (0, 0), dtype)
    bad = np.zeros(rows, dtype=np.int64)
    work = 10 * ranked + (ranked + unranked) * (6 + 0.2 * users.shape[1])
    run_rows(
        _fused, rows, work, array(users, dtype), array(items, dtype), array(ranked_ids, ranked_ids.dtype),
        array(unranked_ids, unranked_ids.dtype), optional(weights, dtype), weights is not None, gradient,
        loss, coefficients, keys, unit_users, bad,
    )  # fmt: skip
    if validate and bad.any():
        refuse("ranked_ids", ranked_ids, len(items))
        refuse("unranked_ids", unranked_ids, len(items))
    made = (loss, coefficients, keys, unit_users)
    return torch.from_numpy(made[0]), torch.from_numpy(made[1]), torch.from_numpy(made[2]), torch.from_numpy(made[3])


@jit()
def _fused(
    users: Floats, items: Floats, ranked_ids: Ints, unranked_ids: Ints, weights: Floats, weighted: bool, gradient: bool,
    loss: Floats, coefficients: Floats, keys: Ints, unit_users: Floats, bad: Ints, start: int, stop: int,
) -> None:  # fmt: skip
    length, width = ranked_ids.shape[1], ranked_ids.shape[1] + unranked_ids.shape[1]
    memory = scratch(length, width - length)
    row, own_keys = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    values, rows = np.empty(width, dtype=loss.dtype), np.empty(width, dtype=keys.dtype)
    for b in range(start, stop):
        if gradient:
            row = coefficients[b]
        if keys.size:
            own_keys = keys[b]
        wrong = score_list(users[b], items, ranked_ids[b], row[:length], own_keys[:length])
        bad[b] = wrong + score_list(users[b], items, unranked_ids[b], row[length:], own_keys[length:])
        weight = weights[b] if weighted else row[:0]
        loss[b] = relaxed_ranking_row(
            row[:length], row[length:], weight, weighted, gradient, row[:length], row[length:], memory
        )
        if unit_users.size:
            sum_list(row, items, own_keys, unit_users[b], rows, values)
