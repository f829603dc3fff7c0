"""What losses of a list of ids share on the GPU: scores and the user's gradient around a loss of one row, and backward.

Shapes: B users, N items, D dimensions, W = K + L ids of a user, from two lists [B, K] and [B, L].

One program per user. It gathers the list's rows and writes their scores to the coefficient buffer [B, W]; the loss
turns them into coefficients dloss/dscore in place; the user's gradient is the rows' sum weighted by these. A list of
at most 16384 numbers stays in registers between the two (``resident``); a longer one is read twice, tile by tile.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import compute_dtype, narrow
from fastkd.kernels.triton._segment_sum import dim_block, is_few, key_dtype, segment_sum
from fastkd.kernels.triton.gather_dot import list_scores

_RESIDENT, _TILE = 16384, 4096
Made = tuple[Tensor, Tensor, Tensor, Tensor]


def plan(width: int, dim: int, scan: int) -> tuple[int, int, bool, int]:
    """Return (DIMS, LIST, RESIDENT, warps): dimensions and rows of a tile, whether it is the whole list, and warps.

    ``scan``: the most scores that the loss holds at once.
    """
    block = triton.next_power_of_2(max(dim, 1))
    rows = triton.next_power_of_2(max(width, 1))
    resident = block * rows <= _RESIDENT
    if not resident:
        block = dim_block(dim)
        rows = min(rows, max(1, _TILE // block))
    return block, rows, resident, min(16, max(1, rows * block // 2048, scan // 256))


def results(users: Tensor, items: Tensor, width: int, *, need_users: bool, need_items: bool) -> Made:
    """Return (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]).

    Keys are empty where the items, user gradients where the users want no gradient; coefficients are always there, for
    they hold the scores.
    """
    dtype, device, rows = compute_dtype(users, items), users.device, len(users)
    return (
        new((rows,), dtype, device),
        new((rows, width), dtype, device),
        new((rows, width) if need_items else (0, 0), key_dtype(len(items)), device),
        new((rows, users.shape[1]) if need_users else (0, 0), dtype, device),
    )


def listwise_backward(
    upstream: Tensor, coefficients: Tensor, keys: Tensor, unit_users: Tensor, users: Tensor, items: Tensor,
    *, need_users: bool, need_items: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return gradients Float[B, D] and Float[N, D] in the dtypes of ``users`` and ``items``; empty if not needed.

    ``upstream``: Float[B]. ``coefficients``, ``keys``: [B, W], as the forward pass left them.
    """
    upstream = upstream.contiguous()
    user_grad = new(tuple(users.shape) if need_users else (0,), users.dtype, users.device)
    item_grad = new((0,), items.dtype, items.device)
    folded = need_items and need_users and is_few(keys, items)
    if need_items:
        both = (unit_users, user_grad) if folded else ()
        item_grad = segment_sum(coefficients, keys, users.contiguous(), upstream, items, *both)
    if need_users and user_grad.numel() and not folded:
        _scale[(triton.cdiv(user_grad.numel(), 1024),)](
            unit_users, upstream, user_grad, user_grad.numel(), users.shape[1], SIZE=1024
        )
    return user_grad, item_grad


@triton.jit
def _scale(unit, upstream, out, count, D, SIZE: tl.constexpr):
    """out[b, d] = upstream[b] unit[b, d]."""
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    live = at < count
    value = tl.load(unit + at, live, other=0.0) * tl.load(upstream + at // D, live, other=0.0)
    tl.store(out + at, narrow(value, out.dtype.element_ty), live)


@triton.jit
def list_ids(first, second, b, j, K, L):
    """Return entries j of the list of user b: first [B, K], then second [B, L]; -1 past the end."""
    i = tl.load(first + b * K + j, j < K, other=-1).to(tl.int64)
    if second is not None:
        other = tl.load(second + b * L + (j - K), (j >= K) & (j < K + L), other=-1).to(tl.int64)
        i = tl.where(j < K, i, other)
    return i


@triton.jit
def gather(user, items, i, N, D: tl.constexpr, DIMS: tl.constexpr, TYPE: tl.constexpr):
    """Return (rows [LIST, DIMS] of the table, scores [LIST]) where all dimensions fit."""
    known = (i >= 0) & (i < N)
    d = tl.arange(0, DIMS)
    u = tl.load(user + d, d < D, other=0.0).to(TYPE)
    v = tl.load(items + i[:, None] * D + d[None, :], known[:, None] & (d < D)[None, :], other=0.0).to(TYPE)
    s = tl.sum(v * u[None, :], 1)
    return v, tl.where(known, s, tl.where(i == -1, float("-inf"), float("nan")))


@triton.jit
def begin_list(
    users, items, first, second, b, scores, keys, K, L, N,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Write user b's scores, and keys if wanted, to rows of [B, K + L]; return the item rows if they stay (else 0)."""
    row_keys = None
    if keys is not None:
        row_keys = keys + b * (K + L)
    if RESIDENT:
        j = tl.arange(0, LIST)
        i = list_ids(first, second, b, j, K, L)
        v, s = gather(users + b * D, items, i, N, D, DIMS, TYPE)
        store_list(scores + b * (K + L), row_keys, i, s, j, K + L, N)
    else:
        score_list(users + b * D, items, first, second, b, scores + b * (K + L), row_keys, K, L, N, D, DIMS, LIST, TYPE)
        v = tl.zeros([1, 1], TYPE)
    tl.debug_barrier()
    return v


@triton.jit
def end_list(
    v, items, first, second, b, coefficients, unit_users, K, L, N,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Write user b's gradient, if wanted, from ``v`` of :func:`begin_list` and coefficients, a row of [B, K + L]."""
    if unit_users is not None:
        tl.debug_barrier()
        if RESIDENT:
            j = tl.arange(0, LIST)
            c = tl.load(coefficients + b * (K + L) + j, j < K + L, other=0.0)
            d = tl.arange(0, DIMS)
            tl.store(unit_users + b * D + d, tl.sum(v * c[:, None], 0), d < D)
        else:
            sum_list(
                unit_users + b * D, items, first, second, b, coefficients + b * (K + L), K, L, N, D, DIMS, LIST, TYPE
            )  # fmt: skip


@triton.jit
def store_list(scores, keys, i, s, j, W, N):
    """Keep the scores, and the keys (-1 for what is no item) if they are wanted."""
    tl.store(scores + j, s, j < W)
    if keys is not None:
        known = (i >= 0) & (i < N)
        tl.store(keys + j, tl.where(known, i, -1).to(keys.dtype.element_ty), j < W)


@triton.jit
def score_list(
    user, items, first, second, b, scores, keys, K, L, N,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Write the scores (and keys) of a list too long to hold, LIST rows at a time."""
    for start in range(0, K + L, LIST):
        j = start + tl.arange(0, LIST)
        i = list_ids(first, second, b, j, K, L)
        s = list_scores(user, items, i, N, D, DIMS, LIST, TYPE)
        store_list(scores, keys, i, s, j, K + L, N)


@triton.jit
def sum_list(
    out, items, first, second, b, coefficients, K, L, N,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Write the user's gradient sum_j coefficients_j items_{i_j}, reading the rows again."""
    for low in tl.static_range(0, D, DIMS):
        d = low + tl.arange(0, DIMS)
        total = tl.zeros([DIMS], TYPE)
        for start in range(0, K + L, LIST):
            j = start + tl.arange(0, LIST)
            i = list_ids(first, second, b, j, K, L)
            known = (i >= 0) & (i < N)
            c = tl.load(coefficients + j, known, other=0.0)
            v = tl.load(items + i[:, None] * D + d[None, :], known[:, None] & (d < D)[None, :], other=0.0).to(TYPE)
            total += tl.sum(v * c[:, None], 0)
        tl.store(out + d, total, d < D)
