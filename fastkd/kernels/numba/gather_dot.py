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
from fastkd.kernels.numba._threads import num_parts, run_parts, run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]

# Sums may be reordered into vector lanes; NaN and infinities keep their meaning.
_SUM = frozenset({"reassoc", "contract"})
_BLOCK_BITS = 6


def gather_dot(users: Tensor, items: Tensor, ids: Tensor, *, validate: bool) -> Tensor:
    """Return scores Float[B, C]; see :func:`fastkd.ops.gather_dot`."""
    dtype = compute_dtype(users, items)
    out = new(ids.shape, dtype=dtype)
    bad = np.zeros(len(ids), dtype=np.int64)
    user_rows, item_rows, lists = array(users, dtype), array(items, dtype), array(ids, ids.dtype)
    work = 1 + ids.shape[1] * (4 + 0.15 * users.shape[1])
    run_rows(_scores, len(ids), work, user_rows, item_rows, lists, out, bad)
    if validate and bad.any():
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
    item_grad = new(items.shape if need_items else (0,), dtype=dtype)
    work = 1 + ids.shape[1] * (4 + 0.15 * users.shape[1])
    if need_users:
        run_rows(_user_gradient, len(ids), work, grad, array(items, dtype), lists, user_grad)
    if need_items:
        user_rows = array(users, dtype)
        blocks = 1 + (len(items) >> _BLOCK_BITS)
        parts = num_parts(blocks, (work * len(ids) + 0.5 * items.numel()) / blocks)
        run_parts(lambda part: _item_gradient(grad, user_rows, lists, item_grad, part, parts), parts)
    return torch.from_numpy(user_grad).to(users.dtype), torch.from_numpy(item_grad).to(items.dtype)


@jit(fastmath=set(_SUM))
def _scores(users: Floats, items: Floats, ids: Ints, out: Floats, bad: Ints, start: int, stop: int) -> None:
    for b in range(start, stop):
        p = users[b]
        for c in range(ids.shape[1]):
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
                bad[b] += 1


@jit(fastmath={"contract"})
def _user_gradient(grad: Floats, items: Floats, ids: Ints, out: Floats, start: int, stop: int) -> None:
    for b in range(start, stop):
        row = out[b]
        row[:] = 0
        for c in range(ids.shape[1]):
            i = ids[b, c]
            if 0 <= i < items.shape[0]:
                g = grad[b, c]
                q = items[i]
                for d in range(row.shape[0]):
                    row[d] += g * q[d]


@jit(fastmath={"contract"})
def _item_gradient(grad: Floats, users: Floats, ids: Ints, out: Floats, part: int, parts: int) -> None:
    """Sum g_bc p_b into the items of ``part``, in the order of (b, c) however many parts there are.

    A part owns every ``parts``-th block of 64 items: popular items, often neighbours, spread over threads.
    """
    num_items = out.shape[0]
    owners, mine = np.uint32(parts), np.uint32(part)
    for first in range(part << _BLOCK_BITS, num_items, parts << _BLOCK_BITS):
        out[first : first + (1 << _BLOCK_BITS)] = 0
    for b in range(ids.shape[0]):
        p = users[b]
        for c in range(ids.shape[1]):
            i = ids[b, c]
            # 32-bit division is several times faster; a block number fits (N < 2**38).
            if 0 <= i < num_items and np.uint32(i >> _BLOCK_BITS) % owners == mine:
                g = grad[b, c]
                row = out[i]
                for d in range(p.shape[0]):
                    row[d] += g * p[d]
