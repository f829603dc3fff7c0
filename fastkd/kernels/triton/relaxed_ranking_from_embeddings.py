"""Relaxed Plackett-Luce loss of each row from vectors on the GPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, K ranked, L unranked, W = K + L. One program per user; see ``_listwise`` for the
gathering and ``_relaxed_ranking`` for the arithmetic.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._listwise import (
    gather,
    list_ids,
    listwise_backward,
    plan,
    results,
    score_list,
    store_list,
    sum_list,
)
from fastkd.kernels.triton._relaxed_ranking import relaxed_ranking_row
from fastkd.kernels.triton._rows import TRITON, configuration, contiguous
from fastkd.kernels.triton.gather_dot import refuse_out_of_range
from fastkd.kernels.triton.relaxed_ranking import row_tiles

relaxed_ranking_from_embeddings_backward = listwise_backward


def relaxed_ranking_from_embeddings(
    users: Tensor, items: Tensor, ranked_ids: Tensor, unranked_ids: Tensor, weights: Tensor | None,
    *, validate: bool, need_users: bool, need_items: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return (loss [B], coefficients [B, W], keys [B, W], unit user gradients [B, D]); see ``_listwise.results``."""
    if validate:
        refuse_out_of_range("ranked_ids", ranked_ids, len(items))
        refuse_out_of_range("unranked_ids", unranked_ids, len(items))
    ranked, unranked, dim = ranked_ids.shape[1], unranked_ids.shape[1], users.shape[1]
    made = results(users, items, ranked + unranked, need_users=need_users, need_items=need_items)
    loss, coefficients, keys, unit_users = made
    ranks, step = row_tiles(ranked, unranked)
    block, rows, resident, warps = plan(ranked + unranked, dim, max(ranks, step))
    if len(users):
        _fused[(len(users),)](
            users.contiguous(), items.contiguous(), ranked_ids.contiguous(),
            unranked_ids.contiguous() if unranked else None, contiguous(weights), loss, coefficients,
            keys if need_items else None, unit_users if need_users else None, len(items), ranked, unranked,
            D=dim, DIMS=block, LIST=rows, RESIDENT=resident, GRADIENT=need_users or need_items, RANKS=ranks, STEP=step,
            TYPE=TRITON[coefficients.dtype], num_warps=warps,
        )  # fmt: skip
    return made


@triton.jit
def _fused(
    users, items, ranked_ids, unranked_ids, weights, loss, coefficients, keys, unit_users, N, K, L,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, GRADIENT: tl.constexpr,
    RANKS: tl.constexpr, STEP: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """users, unit_users [B, D]; items [N, D]; ranked_ids, weights [B, K]; unranked_ids [B, L]; keys [B, W]."""
    b = tl.program_id(0).to(tl.int64)
    scores, user = coefficients + b * (K + L), users + b * D
    row_keys, weight = None, None
    if keys is not None:
        row_keys = keys + b * (K + L)
    if weights is not None:
        weight = weights + b * K
    j = tl.arange(0, LIST)
    if RESIDENT:
        i = list_ids(ranked_ids, unranked_ids, b, j, K, L)
        v, s = gather(user, items, i, N, D, DIMS, TYPE)
        store_list(scores, row_keys, i, s, j, K + L, N)
    else:
        score_list(user, items, ranked_ids, unranked_ids, b, scores, row_keys, K, L, N, D, DIMS, LIST, TYPE)
    tl.debug_barrier()
    total = relaxed_ranking_row(scores, scores + K, weight, scores, scores + K, K, L, GRADIENT, RANKS, STEP, TYPE)
    tl.store(loss + b, total)
    if unit_users is not None:
        tl.debug_barrier()
        if RESIDENT:
            c = tl.load(scores + j, j < K + L, other=0.0)
            d = tl.arange(0, DIMS)
            tl.store(unit_users + b * D + d, tl.sum(v * c[:, None], 0), d < D)
        else:
            sum_list(
                unit_users + b * D, items, ranked_ids, unranked_ids, b, scores, K, L, N, D, DIMS, LIST, TYPE
            )  # fmt: skip


def _configuration(dim: int, ranked: int, unranked: int) -> Configuration:
    ranks, step = row_tiles(ranked, unranked)
    block, rows, resident, warps = plan(ranked + unranked, dim, max(ranks, step))
    floats = ("users", "items", "loss", "coefficients", "unit_users")
    return configuration(
        f"d{dim}-k{ranked}-l{unranked}", _fused,
        {**dict.fromkeys(floats, "*fp32"), "ranked_ids": "*i64", "unranked_ids": "*i64", "keys": "*i32"},
        {"N": "i32", "K": "i32", "L": "i32"},
        {"weights": None, "D": dim, "DIMS": block, "LIST": rows, "RESIDENT": resident, "GRADIENT": True, "RANKS": ranks,
         "STEP": step, "TYPE": TRITON[torch.float32]},
        num_warps=warps,
    )  # fmt: skip


CONFIGURATIONS = tuple(
    _configuration(*shape)
    for shape in ((64, 40, 200), (64, 40, 80), (128, 100, 150), (20, 100, 200), (64, 10, 10), (256, 100, 900))
)
