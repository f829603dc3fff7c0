"""Binary cross entropy from vectors on the GPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, C ids of a user. One program per user; see ``_listwise`` for the gathering and
``weighted_bce`` for the arithmetic.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._listwise import Made, begin_list, end_list, listwise_backward, plan, results
from fastkd.kernels.triton._rows import TRITON, configuration, contiguous, split, tile
from fastkd.kernels.triton.gather_dot import refuse_out_of_range
from fastkd.kernels.triton.weighted_bce import bce_rows

weighted_bce_from_embeddings_backward = listwise_backward


def weighted_bce_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, targets: Tensor, weights: Tensor | None,
    *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, C], keys [B, C], unit user gradients [B, D]); see ``_listwise.results``."""
    if validate:
        refuse_out_of_range("ids", ids, len(items))
    return bce_of_list(users, items, ids, targets, weights, None, need_users=need_users, need_items=need_items)


def bce_of_list(
    users: Tensor, items: Tensor, ids: Tensor, targets: Tensor, weights: Tensor | None,
    teacher: tuple[float, float] | None, *, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Start the kernel; with ``teacher`` = (1 / temperature, shift), targets are the teacher's scores."""
    width, dim = ids.shape[1], users.shape[1]
    made = results(users, items, width, need_users=need_users, need_items=need_items)
    loss, coefficients, keys, unit_users = made
    columns = tile(width)[1]
    block, rows, resident, warps = plan(width, dim, columns)
    scale, shift = teacher or (1.0, 0.0)
    if len(users):
        _fused[(len(users),)](
            users.contiguous(), items.contiguous(), ids.contiguous(), targets.contiguous(), contiguous(weights), loss,
            coefficients, keys if need_items else None, unit_users if need_users else None, len(users), len(items),
            width, *split(scale), *split(shift),
            TEACHER=teacher is not None, D=dim, DIMS=block, LIST=rows, RESIDENT=resident,
            GRADIENT=need_users or need_items, COLS=columns, TYPE=TRITON[coefficients.dtype], num_warps=warps,
        )  # fmt: skip
    return made


@triton.jit
def _fused(
    users, items, ids, targets, weights, loss, coefficients, keys, unit_users, B, N, C,
    scale, scale_rest, shift, shift_rest, TEACHER: tl.constexpr,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, GRADIENT: tl.constexpr,
    COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """users, unit_users [B, D]; items [N, D]; ids, targets, weights, coefficients, keys [B, C]; loss [B]."""
    b = tl.program_id(0).to(tl.int64)
    v = begin_list(users, items, ids, None, b, coefficients, keys, C, 0, N, D, DIMS, LIST, RESIDENT, TYPE)
    row = b + tl.arange(0, 1)
    total = bce_rows(
        coefficients, targets, weights, coefficients, row, B, C, scale, scale_rest, shift, shift_rest,
        TEACHER, GRADIENT, 1, COLS, TYPE,
    )  # fmt: skip
    tl.store(loss + row, total)
    end_list(v, items, ids, None, b, coefficients, unit_users, C, 0, N, D, DIMS, LIST, RESIDENT, TYPE)


def _configuration(dim: int, width: int, *, teacher: bool = False) -> Configuration:
    columns = tile(width)[1]
    block, rows, resident, warps = plan(width, dim, columns)
    floats = ("users", "items", "targets", "loss", "coefficients", "unit_users")
    return configuration(
        f"{'soft' if teacher else 'bce'}-d{dim}-c{width}", _fused,
        {**dict.fromkeys(floats, "*fp32"), "ids": "*i64", "keys": "*i32"},
        {**dict.fromkeys(("B", "N", "C"), "i32"),
         **dict.fromkeys(("scale", "scale_rest", "shift", "shift_rest"), "fp32")},
        {"weights": None, "TEACHER": teacher, "D": dim, "DIMS": block, "LIST": rows, "RESIDENT": resident,
         "GRADIENT": True, "COLS": columns, "TYPE": TRITON[torch.float32]},
        num_warps=warps,
    )  # fmt: skip


CONFIGURATIONS = (
    *(_configuration(*shape) for shape in ((64, 240), (128, 250), (64, 2), (256, 1000))),
    *(_configuration(*shape, teacher=True) for shape in ((64, 240), (20, 100))),
)
