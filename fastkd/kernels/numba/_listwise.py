"""What losses of a list of ids share on the CPU: scores and the user's gradient around a loss of one row, and backward.

Shapes: B users, N items, D dimensions, W ids of a user. A row's vectors are gathered for its scores and again, while
they are in the cache, for the user's gradient; coefficients c = dloss/dscore replace the scores.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import NUMPY, array, compute_dtype, new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._prefetch import AHEAD, prefetch_row
from fastkd.kernels.numba._raw import Raw, matrix
from fastkd.kernels.numba._row_sums import sum_rows
from fastkd.kernels.numba._table_gradient import table_gradient
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]
Made = tuple[Tensor, Tensor, Tensor, Tensor]
_NONE = (0, 0)


def key_dtype(num_items: int) -> type[np.signedinteger[Any]]:
    """Return the dtype of keys: int32 where it holds them."""
    return np.int32 if num_items < 2**31 else np.int64


def results(
    users: Tensor, items: Tensor, width: int, *, need_users: bool, need_items: bool
) -> tuple[Floats, Floats, Ints, Floats]:
    """Return memory for (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]), empty if unused."""
    real, wanted = NUMPY[compute_dtype(users, items)], need_users or need_items
    rows, dim = users.shape
    return (
        np.empty(rows, real),
        np.empty((rows, width) if wanted else _NONE, real),
        np.empty((rows, width) if need_items else _NONE, key_dtype(items.shape[0])),
        np.empty((rows, dim) if need_users else _NONE, real),
    )


def table_pair(users: Tensor, items: Tensor) -> tuple[int, int, int, int]:
    """Return what a kernel needs to read two row-major tables: their addresses, N and D."""
    count, dim = items.shape
    return users.data_ptr(), items.data_ptr(), count, dim


@jit()
def tables_at(tables: Raw, loss: Floats) -> tuple[Floats, Floats]:
    """Return the arrays users [B, D] and items [N, D] that :func:`table_pair` told of, in the dtype of ``loss`` [B]."""
    dim = tables[3]
    return matrix(tables[0], len(loss), dim, loss), matrix(tables[1], tables[2], dim, loss)


def tensors(made: tuple[Floats, Floats, Ints, Floats]) -> Made:
    """Return the four arrays as tensors that share their memory."""
    return torch.from_numpy(made[0]), torch.from_numpy(made[1]), torch.from_numpy(made[2]), torch.from_numpy(made[3])


def refuse(name: str, ids: Tensor, num_items: int) -> None:
    """Raise for the first id outside [-1, N), if there is one."""
    wrong = ids[(ids < -1) | (ids >= num_items)]
    if wrong.numel():
        raise ValueError(f"{name} holds {int(wrong[0])}, outside [0, {num_items}) and not -1 (padding)")


def listwise_backward(
    upstream: Tensor, coefficients: Tensor, keys: Tensor, unit_users: Tensor, users: Tensor, items: Tensor,
    *, need_users: bool, need_items: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return gradients Float[B, D] and Float[N, D] in the dtypes of ``users`` and ``items``; empty if not needed.

    ``upstream``: Float[B]. ``coefficients``, ``keys``: [B, W], as the forward pass left them.
    """
    dtype = compute_dtype(users, items)
    rows = array(upstream, dtype)
    user_grad = new(users.shape if need_users else (0,), dtype)
    item_grad = new((0,), dtype)
    if need_users:
        run_rows(_scale, len(users), 1 + 0.2 * users.shape[1], rows, array(unit_users, dtype), user_grad)
    if need_items:
        listed, weights, vectors = array(keys, keys.dtype), array(coefficients, dtype), array(users, dtype)
        item_grad = table_gradient(rows, True, weights, listed, vectors, len(items), dtype)
    return torch.from_numpy(user_grad).to(users.dtype), torch.from_numpy(item_grad).to(items.dtype)


@jit(fastmath={"contract"})
def _scale(upstream: Floats, unit: Floats, out: Floats, start: int, stop: int) -> None:
    for b in range(start, stop):
        for d in range(unit.shape[1]):
            out[b, d] = upstream[b] * unit[b, d]


@jit(fastmath={"reassoc", "contract"})
def score_list(user: Floats, items: Floats, ids: Ints, scores: Floats, keys: Ints) -> int:
    """Write the scores and keys of a list, and return how many ids are no item's (score NaN, key -1)."""
    bad = 0
    for c in range(len(ids)):
        if c + AHEAD < len(ids):
            prefetch_row(items, ids[c + AHEAD])
        i = ids[c]
        if 0 <= i < items.shape[0]:
            q = items[i]
            total = user.dtype.type(0)
            for d in range(user.shape[0]):
                total += user[d] * q[d]
            scores[c] = total
            keys[c] = i
        else:
            scores[c] = -np.inf if i == -1 else np.nan
            keys[c] = -1
            bad += i != -1
    return bad


@jit()
def sum_list(coefficients: Floats, items: Floats, keys: Ints, out: Floats, rows: Ints, values: Floats) -> None:
    """Write the user's gradient, the sum of the rows weighted by their coefficients; rows, values: memory for W."""
    count = 0
    for c in range(len(keys)):
        rows[count], values[count] = keys[c], coefficients[c]
        count += keys[c] >= 0
    sum_rows(items, rows, values, 0, count, out)
