"""Relaxed Plackett-Luce loss of each row on the GPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, K ranked, L unranked. One program per row; see ``_relaxed_ranking`` for the arithmetic.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._relaxed_ranking import relaxed_ranking_row
from fastkd.kernels.triton._rows import TRITON, compute_dtype, configuration, contiguous


def relaxed_ranking(
    ranked: Tensor, unranked: Tensor, weights: Tensor | None, *, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (loss Float[B], unit gradients Float[B, K] and Float[B, L]), the gradients empty if not asked for."""
    dtype, device = compute_dtype(ranked, unranked), ranked.device
    rows = len(ranked)
    loss = new((rows,), dtype, device)
    unit_ranked = new(tuple(ranked.shape) if gradient else (0, 0), dtype, device)
    unit_unranked = new(tuple(unranked.shape) if gradient else (0, 0), dtype, device)
    ranks, step = row_tiles(ranked.shape[1], unranked.shape[1])
    if rows:
        _loss[(rows,)](
            ranked.contiguous(), unranked.contiguous(), contiguous(weights), loss, unit_ranked, unit_unranked,
            ranked.shape[1], unranked.shape[1],
            GRADIENT=gradient, RANKS=ranks, STEP=step, TYPE=TRITON[dtype], num_warps=row_warps(ranks, step),
        )  # fmt: skip
    return loss, unit_ranked, unit_unranked


def row_tiles(ranked: int, unranked: int) -> tuple[int, int]:
    """Return (RANKS, STEP): all ranks at once, the others at most 1024 at a time."""
    return max(2, triton.next_power_of_2(ranked)), min(1024, triton.next_power_of_2(max(unranked, 1)))


def row_warps(ranks: int, step: int) -> int:
    """Return how many warps share a row: 64 scores to a warp, within reason."""
    return min(16, max(1, max(ranks, step) // 64))


@triton.jit
def _loss(
    ranked, unranked, weights, loss, unit_ranked, unit_unranked, K, L,
    GRADIENT: tl.constexpr, RANKS: tl.constexpr, STEP: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """ranked, weights, unit_ranked [B, K]; unranked, unit_unranked [B, L]; loss [B]."""
    b = tl.program_id(0).to(tl.int64)
    weight = None
    if weights is not None:
        weight = weights + b * K
    total = relaxed_ranking_row(
        ranked + b * K, unranked + b * L, weight, unit_ranked + b * K, unit_unranked + b * L, K, L,
        GRADIENT, RANKS, STEP, TYPE,
    )  # fmt: skip
    tl.store(loss + b, total)


CONFIGURATIONS = tuple(
    configuration(
        f"row-{k}+{length}", _loss,
        dict.fromkeys(("ranked", "unranked", "loss", "unit_ranked", "unit_unranked"), "*fp32"),
        {"K": "i32", "L": "i32"},
        {"weights": None, "GRADIENT": True, "RANKS": row_tiles(k, length)[0], "STEP": row_tiles(k, length)[1],
         "TYPE": TRITON[torch.float32]},
        num_warps=row_warps(*row_tiles(k, length)),
    )
    for k, length in ((40, 200), (1000, 0), (10, 4000))
)  # fmt: skip
