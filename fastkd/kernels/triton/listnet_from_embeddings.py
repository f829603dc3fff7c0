"""ListNet's cross entropy of each row from vectors on the GPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, C ids of a user. One program per user; see ``_listwise`` and ``_listnet``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._listnet import listnet_rows
from fastkd.kernels.triton._listwise import gather, listwise_backward, plan, results, score_list, store_list, sum_list
from fastkd.kernels.triton._rows import TRITON, configuration, split, tile
from fastkd.kernels.triton.gather_dot import refuse_out_of_range

listnet_from_embeddings_backward = listwise_backward


def listnet_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, temperature: float,
    *, validate: bool, need_users: bool, need_items: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return (loss [B], coefficients [B, C], keys [B, C], unit user gradients [B, D]); see ``_listwise.results``."""
    if validate:
        refuse_out_of_range("ids", ids, len(items))
    width, dim = ids.shape[1], users.shape[1]
    made = results(users, items, width, need_users=need_users, need_items=need_items)
    loss, coefficients, keys, unit_users = made
    columns = tile(width)[1]
    block, rows, resident, warps = plan(width, dim, columns)
    if len(users):
        _fused[(len(users),)](
            users.contiguous(), items.contiguous(), ids.contiguous(), teacher.contiguous(), loss, coefficients,
            keys if need_items else None, unit_users if need_users else None, len(users), len(items), width,
            *split(1.0 / temperature),
            D=dim, DIMS=block, LIST=rows, RESIDENT=resident, GRADIENT=need_users or need_items, COLS=columns,
            TYPE=TRITON[coefficients.dtype], num_warps=warps,
        )  # fmt: skip
    return made


@triton.jit
def _fused(
    users, items, ids, teacher, loss, coefficients, keys, unit_users, B, N, C, scale, scale_rest,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, GRADIENT: tl.constexpr,
    COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """users, unit_users [B, D]; items [N, D]; ids, teacher, coefficients, keys [B, C]; loss [B]."""
    b = tl.program_id(0).to(tl.int64)
    scores, user = coefficients + b * C, users + b * D
    row_keys = None
    if keys is not None:
        row_keys = keys + b * C
    j = tl.arange(0, LIST)
    if RESIDENT:
        i = tl.load(ids + b * C + j, j < C, other=-1).to(tl.int64)
        v, s = gather(user, items, i, N, D, DIMS, TYPE)
        store_list(scores, row_keys, i, s, j, C, N)
    else:
        score_list(user, items, ids, None, b, scores, row_keys, C, 0, N, D, DIMS, LIST, TYPE)
    tl.debug_barrier()
    row = b + tl.arange(0, 1)
    total = listnet_rows(
        coefficients, teacher, coefficients, row, B, C, scale, scale_rest, GRADIENT, 1, COLS, TYPE
    )  # fmt: skip
    tl.store(loss + row, total)
    if unit_users is not None:
        tl.debug_barrier()
        if RESIDENT:
            c = tl.load(scores + j, j < C, other=0.0)
            d = tl.arange(0, DIMS)
            tl.store(unit_users + b * D + d, tl.sum(v * c[:, None], 0), d < D)
        else:
            sum_list(unit_users + b * D, items, ids, None, b, scores, C, 0, N, D, DIMS, LIST, TYPE)


def _configuration(dim: int, width: int) -> Configuration:
    columns = tile(width)[1]
    block, rows, resident, warps = plan(width, dim, columns)
    return configuration(
        f"d{dim}-c{width}", _fused,
        {**dict.fromkeys(("users", "items", "teacher", "loss", "coefficients", "unit_users"), "*fp32"),
         "ids": "*i64", "keys": "*i32"},
        {"B": "i32", "N": "i32", "C": "i32", "scale": "fp32", "scale_rest": "fp32"},
        {"D": dim, "DIMS": block, "LIST": rows, "RESIDENT": resident, "GRADIENT": True, "COLS": columns,
         "TYPE": TRITON[torch.float32]},
        num_warps=warps,
    )  # fmt: skip


CONFIGURATIONS = tuple(_configuration(*shape) for shape in ((64, 240), (128, 250), (20, 100), (64, 10), (256, 1000)))
