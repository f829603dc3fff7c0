"""Pairwise losses from vectors on the GPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, n negatives of a user, W = 1 + n with the positive first. One program per user;
see ``_listwise`` for the gathering and ``pairwise`` for the arithmetic.
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
from fastkd.kernels.triton.pairwise import pairwise_rows

pairwise_from_embeddings_backward = listwise_backward


def pairwise_from_embeddings(
    users: Tensor, items: Tensor, positive_ids: Tensor, negative_ids: Tensor, weights: Tensor | None, loss: str,
    margin: float, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]); see ``_listwise.results``."""
    if validate:
        refuse_out_of_range("positive_ids", positive_ids, len(items))
        refuse_out_of_range("negative_ids", negative_ids, len(items))
    width, dim = negative_ids.shape[1], users.shape[1]
    made = results(users, items, 1 + width, need_users=need_users, need_items=need_items)
    out, coefficients, keys, unit_users = made
    columns = tile(width)[1]
    block, rows, resident, warps = plan(1 + width, dim, columns)
    if len(users):
        _fused[(len(users),)](
            users.contiguous(), items.contiguous(), positive_ids.contiguous(),
            negative_ids.contiguous() if width else None, contiguous(weights), out, coefficients,
            keys if need_items else None, unit_users if need_users else None, len(users), len(items), width,
            *split(margin), HINGE=loss == "margin", D=dim, DIMS=block, LIST=rows, RESIDENT=resident,
            GRADIENT=need_users or need_items, COLS=columns, TYPE=TRITON[coefficients.dtype], num_warps=warps,
        )  # fmt: skip
    return made


@triton.jit
def _fused(
    users, items, positive_ids, negative_ids, weights, loss, coefficients, keys, unit_users, B, N, C,
    margin, margin_rest, HINGE: tl.constexpr,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, GRADIENT: tl.constexpr,
    COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """users, unit_users [B, D]; items [N, D]; positive_ids [B, 1]; negative_ids, weights [B, C]; loss [B]."""
    b = tl.program_id(0).to(tl.int64)
    v = begin_list(
        users, items, positive_ids, negative_ids, b, coefficients, keys, 1, C, N, D, DIMS, LIST, RESIDENT, TYPE
    )  # fmt: skip
    row = b + tl.arange(0, 1)
    total = pairwise_rows(
        coefficients, coefficients + 1, weights, coefficients, coefficients + 1, row, B, C, 1 + C, 1 + C,
        margin, margin_rest, HINGE, GRADIENT, 1, COLS, TYPE,
    )  # fmt: skip
    tl.store(loss + row, total)
    end_list(v, items, positive_ids, negative_ids, b, coefficients, unit_users, 1, C, N, D, DIMS, LIST, RESIDENT, TYPE)


def _configuration(dim: int, width: int, *, hinge: bool = False) -> Configuration:
    columns = tile(width)[1]
    block, rows, resident, warps = plan(1 + width, dim, columns)
    floats = ("users", "items", "loss", "coefficients", "unit_users")
    return configuration(
        f"{'margin' if hinge else 'bpr'}-d{dim}-n{width}", _fused,
        {**dict.fromkeys(floats, "*fp32"), "positive_ids": "*i64", "negative_ids": "*i64", "keys": "*i32"},
        {**dict.fromkeys(("B", "N", "C"), "i32"), **dict.fromkeys(("margin", "margin_rest"), "fp32")},
        {"weights": None, "HINGE": hinge, "D": dim, "DIMS": block, "LIST": rows, "RESIDENT": resident,
         "GRADIENT": True, "COLS": columns, "TYPE": TRITON[torch.float32]},
        num_warps=warps,
    )  # fmt: skip


CONFIGURATIONS = (
    *(_configuration(*shape) for shape in ((64, 1), (64, 239), (128, 100), (256, 1000))),
    _configuration(64, 4, hinge=True),
)
