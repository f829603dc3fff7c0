"""Scores of listed items on the CPU, and their gradients.

Shapes: B users, N items, D dimensions, C candidates of a user. An id of -1 is padding; any other id outside
[0, N) is counted, scored NaN and given no gradient, so memory is never read or written out of bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._prefetch import AHEAD, prefetch_row
from fastkd.kernels.numba._row_sums import sum_rows
from fastkd.kernels.numba._table_gradient import table_gradient
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

# Sums may be reordered into vector lanes; NaN and infinities keep their meaning.
_SUM = frozenset({"reassoc", "contract"})


def gather_dot(users: Tensor, items: Tensor, ids: Tensor, *, validate: bool) -> Tensor:
    """Return scores Float[B, C]; see :func:`fastkd.ops.gather_dot`."""
    dtype = compute_dtype(users, items)
    out = new(ids.shape, dtype=dtype)
    bad = np.zeros(1, dtype=np.int64)
    user_rows, item_rows, lists = array(users, dtype), array(items, dtype), array(ids, ids.dtype)
    work = 1 + ids.shape[1] * (4 + 0.15 * users.shape[1])
    run_rows(_scores, len(ids), work, user_rows, item_rows, lists, out, bad)
    if validate and bad[0]:
        wrong = ids[(ids < -1) | (ids >= len(items))]
        raise ValueError(f"ids holds {int(wrong[0])}, outside [0, {len(items)}) and not -1 (padding)")
    return torch.from_numpy(out)


def gather_dot_backward(
    upstream: Tensor, users: Tensor, items: Tensor, ids: Tensor, *, need_users: bool, need_items: bool
) -> tuple[Tensor, Tensor]:
    """Return gradients Float[B, D] and Float[N, D] in the dtypes of ``users`` and ``items``; empty if not needed."""
    dtype = compute_dtype(users, items)
    grad, lists = array(upstream, dtype), array(ids, ids.dtype)
    user_grad = new(users.shape if need_users else (0,), dtype=dtype)
    item_grad = new((0,), dtype=dtype)
    work = 1 + ids.shape[1] * (4 + 0.15 * users.shape[1])
    if need_users:
        run_rows(_user_gradient, len(ids), work, grad, array(items, dtype), lists, user_grad)
    if need_items:
        item_grad = table_gradient(grad.ravel(), False, grad, lists, array(users, dtype), len(items), dtype)
    return torch.from_numpy(user_grad).to(users.dtype), torch.from_numpy(item_grad).to(items.dtype)


@jit(fastmath=set(_SUM))
def _scores(users: Floats, items: Floats, ids: Ints, out: Floats, bad: Ints, start: int, stop: int) -> None:
    for b in range(start, stop):
        p = users[b]
        for c in range(ids.shape[1]):
            if c + AHEAD < ids.shape[1]:
                prefetch_row(items, ids[b, c + AHEAD])
            i = ids[b, c]
            if 0 <= i < items.shape[0]:
                q = items[i]
                total = p.dtype.type(0)
                for d in range(p.shape[0]):
                    total += p[d] * q[d]
                out[b, c] = total
            elif i == -1:
                out[b, c] = -np.inf
            else:
                out[b, c] = np.nan
                bad[0] = 1


@jit()
def _user_gradient(grad: Floats, items: Floats, ids: Ints, out: Floats, start: int, stop: int) -> None:
    rows, values = np.empty(ids.shape[1], dtype=ids.dtype), np.empty(ids.shape[1], dtype=grad.dtype)
    for b in range(start, stop):
        count = 0
        for c in range(ids.shape[1]):
            if 0 <= ids[b, c] < items.shape[0]:
                rows[count], values[count] = ids[b, c], grad[b, c]
                count += 1
        sum_rows(items, rows, values, 0, count, out[b])
