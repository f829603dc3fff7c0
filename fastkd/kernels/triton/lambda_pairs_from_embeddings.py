"""Weighted logistic loss of all pairs of a list from vectors on the GPU, with coefficients and the user's gradient.

Shapes: B users, N items, D dimensions, K ids of a user. One program per user; see ``_listwise`` for the gathering and
``lambda_pairs`` for the arithmetic. A score meets every other, so coefficients cannot take the place of scores.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._listwise import Made, begin_list, end_list, listwise_backward, plan, results
from fastkd.kernels.triton._rows import TRITON, configuration, contiguous, split
from fastkd.kernels.triton.gather_dot import refuse_out_of_range
from fastkd.kernels.triton.lambda_pairs import KINDS, lambda_row, side

lambda_pairs_from_embeddings_backward = listwise_backward


def lambda_pairs_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, gains: Tensor | None, pair_weights: Tensor | None, weights: str,
    sigma: float, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, K], keys [B, K], unit user gradients [B, D]); see ``_listwise.results``."""
    if validate:
        refuse_out_of_range("ids", ids, len(items))
    (rows, width), dim, kind = ids.shape, users.shape[1], KINDS[weights]
    made = results(users, items, width, need_users=need_users, need_items=need_items)
    loss, coefficients, keys, unit_users = made
    scores = new((rows, width), coefficients.dtype, users.device)
    stake = new((rows, width) if kind in (1, 2) else (0, 0), coefficients.dtype, users.device)
    block, step, resident, warps = plan(width, dim, _held(width))
    if rows:
        _fused[(rows,)](
            users.contiguous(), items.contiguous(), ids.contiguous(), contiguous(gains), contiguous(pair_weights), loss,
            scores, stake, coefficients, keys if need_items else None, unit_users if need_users else None, len(items),
            width, *split(sigma), KIND=kind, D=dim, DIMS=block, LIST=step, RESIDENT=resident,
            GRADIENT=need_users or need_items, SIDE=side(width), TYPE=TRITON[coefficients.dtype], num_warps=warps,
        )  # fmt: skip
    return made


def _held(width: int) -> int:
    """Return the scores that the loss holds, counted twice: the rows stay in registers beside a tile of pairs."""
    return 2 * side(width) ** 2


@triton.jit
def _fused(
    users, items, ids, gains, pair_weights, loss, scores, stake, coefficients, keys, unit_users, N, K,
    sigma, sigma_rest, KIND: tl.constexpr,
    D: tl.constexpr, DIMS: tl.constexpr, LIST: tl.constexpr, RESIDENT: tl.constexpr, GRADIENT: tl.constexpr,
    SIDE: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """users, unit_users [B, D]; items [N, D]; pair_weights [K, K]; loss [B]; all others [B, K]."""
    b = tl.program_id(0).to(tl.int64)
    v = begin_list(users, items, ids, None, b, scores, keys, K, 0, N, D, DIMS, LIST, RESIDENT, TYPE)
    total = lambda_row(
        scores, gains, pair_weights, coefficients, stake, b, K, sigma, sigma_rest, KIND, GRADIENT, SIDE, TYPE
    )  # fmt: skip
    tl.store(loss + b, total)
    end_list(v, items, ids, None, b, coefficients, unit_users, K, 0, N, D, DIMS, LIST, RESIDENT, TYPE)


def _configuration(kind: str, dim: int, width: int) -> Configuration:
    block, rows, resident, warps = plan(width, dim, _held(width))
    floats = ("users", "items", "loss", "scores", "stake", "coefficients", "unit_users")
    given = ("pair_weights",) * (kind == "given")
    return configuration(
        f"{kind}-d{dim}-k{width}", _fused,
        {**dict.fromkeys((*floats, *given), "*fp32"), "ids": "*i64", "keys": "*i32"},
        {"N": "i32", "K": "i32", "sigma": "fp32", "sigma_rest": "fp32"},
        {"gains": None, **({} if given else {"pair_weights": None}), "KIND": KINDS[kind], "D": dim, "DIMS": block,
         "LIST": rows, "RESIDENT": resident, "GRADIENT": True, "SIDE": side(width), "TYPE": TRITON[torch.float32]},
        num_warps=warps,
    )  # fmt: skip


CONFIGURATIONS = (
    *(_configuration(kind, 64, 100) for kind in KINDS),
    *(_configuration("lambdarank", *shape) for shape in ((64, 10), (128, 50), (20, 200))),
)
