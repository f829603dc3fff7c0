"""Weighted logistic loss of all pairs of a list on the GPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, K scores of a row. One program per row; it walks over the pairs in tiles of SIDE x SIDE, so nothing of
size K x K is made. Every pair is met from both its ends: a score sums its own gradient, in order, without atomics.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import TRITON, compute_dtype, configuration, contiguous, real, split
from fastkd.kernels.triton.weighted_bce import log1p

KINDS = {"uniform": 0, "lambdarank": 1, "lambdaloss": 2, "given": 3}
_SIDE = 32


def side(width: int) -> int:
    """Return how many scores of a list meet as many others at a time."""
    return min(_SIDE, int(triton.next_power_of_2(max(width, 1))))


def lambda_pairs(
    scores: Tensor, gains: Tensor | None, pair_weights: Tensor | None, weights: str, sigma: float, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, K]), the gradient empty if not asked for."""
    dtype, device = compute_dtype(scores), scores.device
    rows, width = scores.shape
    kind = KINDS[weights]
    loss = new((rows,), dtype, device)
    unit = new((rows, width) if gradient else (0, 0), dtype, device)
    stake = new((rows, width) if kind in (1, 2) else (0, 0), dtype, device)
    if rows:
        _loss[(rows,)](
            scores.contiguous(), contiguous(gains), contiguous(pair_weights), loss, unit, stake, width, *split(sigma),
            KIND=kind, GRADIENT=gradient, SIDE=side(width), TYPE=TRITON[dtype],
        )  # fmt: skip
    return loss, unit


@triton.jit
def _gains(gains, b, k, K, TYPE: tl.constexpr):
    """Return the gains of places k: given, or the discount of the place itself."""
    if gains is not None:
        return tl.load(gains + b * K + k, k < K, other=0.0).to(TYPE)
    return 1.0 / tl.log2((k + 2).to(TYPE))


@triton.jit
def _prepare(scores, gains, stake, b, K, KIND: tl.constexpr, SIDE: tl.constexpr, TYPE: tl.constexpr):
    """Write each score's rank (KIND 2) or its rank's discount (KIND 1); return 1 / the ideal DCG, 0 without one."""
    ideal = tl.zeros([SIDE], TYPE)
    for low in range(0, K, SIDE):
        i = low + tl.arange(0, SIDE)
        mine = tl.load(scores + b * K + i, i < K, other=float("-inf")).to(TYPE)
        rank = tl.full([SIDE], 1, tl.int32)
        place = tl.full([SIDE], 1, tl.int32)
        for start in range(0, K, SIDE):
            j = start + tl.arange(0, SIDE)
            other = tl.load(scores + b * K + j, j < K, other=float("-inf")).to(TYPE)[None, :]
            before = j[None, :] < i[:, None]
            ahead = (other > mine[:, None]) | ((other == mine[:, None]) & before)
            there = other != float("-inf")
            rank += tl.sum((ahead & there).to(tl.int32), 1)
            place += tl.sum((before & there).to(tl.int32), 1)
        there = mine != float("-inf")
        ideal += tl.where(there, _gains(gains, b, i, K, TYPE) / tl.log2((1 + place).to(TYPE)), 0.0)
        value = rank.to(TYPE)
        if KIND == 1:
            value = 1.0 / tl.log2(1.0 + value)
        tl.store(stake + b * K + i, value, i < K)
    total = tl.sum(ideal, 0)
    return tl.where(total > 0, 1.0 / tl.where(total > 0, total, 1.0), 0.0)


@triton.jit
def _loss(
    scores, gains, pair_weights, loss, unit, stake, K, sigma, sigma_rest,
    KIND: tl.constexpr, GRADIENT: tl.constexpr, SIDE: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """scores, gains, unit, stake [B, K]; pair_weights [K, K]; loss [B]. Pair (i, j) is won if i < j and s_i > s_j."""
    b = tl.program_id(0).to(tl.int64)
    total = lambda_row(
        scores, gains, pair_weights, unit, stake, b, K, sigma, sigma_rest, KIND, GRADIENT, SIDE, TYPE
    )  # fmt: skip
    tl.store(loss + b, total)


@triton.jit
def lambda_row(
    scores, gains, pair_weights, unit, stake, b, K, sigma, sigma_rest,
    KIND: tl.constexpr, GRADIENT: tl.constexpr, SIDE: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Return the loss of row b; store its gradient in ``unit``, which may not be where the scores are."""
    steep = real(sigma, sigma_rest, TYPE)
    share = 1.0
    if (KIND == 1) | (KIND == 2):
        share = _prepare(scores, gains, stake, b, K, KIND, SIDE, TYPE)
        tl.debug_barrier()
    total = tl.zeros([SIDE], TYPE)
    for low in range(0, K, SIDE):
        i = low + tl.arange(0, SIDE)
        mine = tl.load(scores + b * K + i, i < K, other=float("-inf")).to(TYPE)
        here = mine != float("-inf")
        mine = tl.where(here, mine, 0.0)
        slope = tl.zeros([SIDE], TYPE)
        for start in range(0, K, SIDE):
            j = start + tl.arange(0, SIDE)
            other = tl.load(scores + b * K + j, j < K, other=float("-inf")).to(TYPE)
            pair = here[:, None] & (other != float("-inf"))[None, :] & (i[:, None] != j[None, :])
            first = i[:, None] < j[None, :]
            x = mine[:, None] - tl.where(other != float("-inf"), other, 0.0)[None, :]
            x = steep[:, None] * tl.where(first, x, -x)
            e = tl.exp(-tl.abs(x))
            weight = tl.full([SIDE, SIDE], 1.0, TYPE)
            if KIND == 3:
                row, column = tl.minimum(i[:, None], j[None, :]), tl.maximum(i[:, None], j[None, :])
                weight = tl.load(pair_weights + row.to(tl.int64) * K + column, column < K, other=0.0).to(TYPE)
            elif KIND != 0:
                a = tl.load(stake + b * K + i, i < K, other=1.0)
                c = tl.load(stake + b * K + j, j < K, other=1.0)
                weight = tl.abs(a[:, None] - c[None, :])
                if KIND == 2:
                    apart = tl.maximum(weight, 1.0)
                    weight = 1.0 / tl.log2(1.0 + apart) - 1.0 / tl.log2(2.0 + apart)
                worth = _gains(gains, b, i, K, TYPE)[:, None] - _gains(gains, b, j, K, TYPE)[None, :]
                weight = weight * tl.abs(worth) * share
            value = tl.where(x >= 0, 0.0, -x) + log1p(e)
            total += tl.sum(tl.where(pair & first, weight * value, 0.0), 1)
            push = weight * tl.where(x >= 0, e, 1.0) / (1.0 + e)
            slope += tl.sum(tl.where(pair, tl.where(first, -push, push), 0.0), 1)
        if GRADIENT:
            tl.store(unit + b * K + i, slope * steep, i < K)
    return tl.sum(total, 0)


def _configuration(kind: str, side: int, *, graded: bool = False) -> Configuration:
    pointers = ["scores", "loss", "unit", "stake", *["gains"] * graded, *["pair_weights"] * (kind == "given")]
    nothing = [name for name in ("gains", "pair_weights") if name not in pointers]
    return configuration(
        f"{kind}{'-graded' if graded else ''}-{side}", _loss, dict.fromkeys(pointers, "*fp32"),
        {"K": "i32", "sigma": "fp32", "sigma_rest": "fp32"},
        {**dict.fromkeys(nothing), "KIND": KINDS[kind], "GRADIENT": True, "SIDE": side, "TYPE": TRITON[torch.float32]},
    )  # fmt: skip


CONFIGURATIONS = (
    *(_configuration(kind, 32) for kind in KINDS),
    _configuration("lambdarank", 32, graded=True),
    _configuration("lambdarank", 16),
)
