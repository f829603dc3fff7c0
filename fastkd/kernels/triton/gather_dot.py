"""Scores of listed items on the GPU, and their gradients.

Shapes: B users, N items, D dimensions, C candidates of a user. An id of -1 is padding; any other id outside [0, N) is
scored NaN and given no gradient, so memory is never read or written out of bounds. One program per user and WIDTH ids.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import TRITON, compute_dtype, configuration, narrow
from fastkd.kernels.triton._segment_sum import dim_block, is_few, segment_configurations, segment_sum


def gather_dot(users: Tensor, items: Tensor, ids: Tensor, *, validate: bool) -> Tensor:
    """Return scores Float[B, C]; see :func:`fastkd.ops.gather_dot`."""
    if validate:
        refuse_out_of_range("ids", ids, len(items))
    dtype = compute_dtype(users, items)
    rows, width = ids.shape
    out = new((rows, width), dtype, users.device)
    if out.numel():
        block, step = dim_block(users.shape[1]), list_block(width, users.shape[1])
        blocks = triton.cdiv(width, step)
        _scores[(rows * blocks,)](  # one axis: a second one ends at 65,535 programs
            users.contiguous(), items.contiguous(), ids.contiguous(), out, width, len(items), blocks,
            D=users.shape[1], DIMS=block, WIDTH=step, TYPE=TRITON[dtype], num_warps=list_warps(step, block),
        )  # fmt: skip
    return out


def gather_dot_backward(
    upstream: Tensor, users: Tensor, items: Tensor, ids: Tensor, *, need_users: bool, need_items: bool
) -> tuple[Tensor, Tensor]:
    """Return gradients Float[B, D] and Float[N, D] in the dtypes of ``users`` and ``items``; empty if not needed."""
    dtype = compute_dtype(users, items)
    rows, width = ids.shape
    grad, ids = upstream.to(dtype).contiguous(), ids.contiguous()
    users = users.contiguous()
    user_grad = new(tuple(users.shape) if need_users else (0,), users.dtype, users.device)
    item_grad = new((0,), items.dtype, items.device)
    folded = need_users and need_items and user_grad.numel() and is_few(ids, items)
    if need_users and user_grad.numel() and not folded:
        block, step = dim_block(users.shape[1]), list_block(width, users.shape[1])
        _user_gradient[(rows, triton.cdiv(users.shape[1], block))](
            grad, items.contiguous(), ids, user_grad, width, len(items), users.shape[1],
            DIMS=block, WIDTH=step, TYPE=TRITON[dtype], num_warps=list_warps(step, block),
        )  # fmt: skip
    if need_items:
        both = (None, user_grad) if folded else ()
        item_grad = segment_sum(grad, ids, users, None, items, *both, gathered=bool(folded))
    return user_grad, item_grad


def refuse_out_of_range(name: str, ids: Tensor, num_items: int) -> None:
    """Refuse ids outside [-1, N): one small reduction, and one wait for the device."""
    if ids.numel() == 0:
        return
    low, high = torch.stack(ids.aminmax()).tolist()
    if low < -1 or high >= num_items:
        wrong = low if low < -1 else high
        raise ValueError(f"{name} holds {wrong}, outside [0, {num_items}) and not -1 (padding)")


def list_block(width: int, dim: int) -> int:
    """Return how many rows of the table a program holds at once: at most 8192 numbers of them."""
    return max(1, min(int(triton.next_power_of_2(max(width, 1))), 8192 // dim_block(dim)))


def list_warps(step: int, block: int) -> int:
    """Return how many warps share ``step`` rows of ``block`` numbers: 64 numbers to a thread."""
    return min(16, max(1, step * block // 2048))


@triton.jit
def _scores(
    users, items, ids, out, C, N, blocks,
    D: tl.constexpr, DIMS: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Users [B, D], items [N, D], ids and out [B, C]. Program: a user, then one of ``blocks`` blocks of ids."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    c = (tl.program_id(0) % blocks) * WIDTH + tl.arange(0, WIDTH)
    i = tl.load(ids + b * C + c, c < C, other=-1).to(tl.int64)
    s = list_scores(users + b * D, items, i, N, D, DIMS, WIDTH, TYPE)
    tl.store(out + b * C + c, s, c < C)


@triton.jit
def list_scores(
    user, items, i, N, D: tl.constexpr, DIMS: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr
):  # fmt: skip
    """Return the scores [WIDTH] of one user's ids: -inf for padding, NaN for an id that is no item's."""
    known = (i >= 0) & (i < N)
    s = tl.zeros([WIDTH], TYPE)
    for start in tl.static_range(0, D, DIMS):
        d = start + tl.arange(0, DIMS)
        u = tl.load(user + d, d < D, other=0.0).to(TYPE)
        v = tl.load(items + i[:, None] * D + d[None, :], known[:, None] & (d < D)[None, :], other=0.0).to(TYPE)
        s += tl.sum(v * u[None, :], 1)
    return tl.where(known, s, tl.where(i == -1, float("-inf"), float("nan")))


@triton.jit
def _user_gradient(
    grad, items, ids, out, C, N, D, DIMS: tl.constexpr, WIDTH: tl.constexpr, TYPE: tl.constexpr
):  # fmt: skip
    """Grad and ids [B, C], items [N, D], out [B, D]."""
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * DIMS + tl.arange(0, DIMS)
    total = tl.zeros([DIMS], TYPE)
    for start in range(0, C, WIDTH):
        c = start + tl.arange(0, WIDTH)
        i = tl.load(ids + b * C + c, c < C, other=-1).to(tl.int64)
        known = (i >= 0) & (i < N)
        g = tl.load(grad + b * C + c, known, other=0.0)
        v = tl.load(items + i[:, None] * D + d[None, :], known[:, None] & (d < D)[None, :], other=0.0).to(TYPE)
        total += tl.sum(v * g[:, None], 0)
    tl.store(out + b * D + d, narrow(total, out.dtype.element_ty), d < D)


CONFIGURATIONS = tuple(
    entry
    for dim, width in ((64, 240), (128, 250), (64, 2), (512, 100))
    for entry in (
        configuration(
            f"scores-d{dim}-c{width}", _scores,
            {"users": "*fp32", "items": "*fp32", "ids": "*i64", "out": "*fp32"},
            {"C": "i32", "N": "i32", "blocks": "i32"},
            {"D": dim, "DIMS": dim_block(dim), "WIDTH": list_block(width, dim), "TYPE": TRITON[torch.float32]},
            num_warps=list_warps(list_block(width, dim), dim_block(dim)),
        ),
        configuration(
            f"users-d{dim}-c{width}", _user_gradient,
            {"grad": "*fp32", "items": "*fp32", "ids": "*i64", "out": "*fp32"}, {"C": "i32", "N": "i32", "D": "i32"},
            {"DIMS": dim_block(dim), "WIDTH": list_block(width, dim), "TYPE": TRITON[torch.float32]},
            num_warps=list_warps(list_block(width, dim), dim_block(dim)),
        ),
        *(segment_configurations(dim) if width > 100 else ()),
    )
)  # fmt: skip
