"""Pairwise losses of one positive against n negatives on the GPU, and their gradients for an upstream gradient of 1.

Shapes: B rows, C negatives of a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import TRITON, compute_dtype, configuration, contiguous, real, split, tile
from fastkd.kernels.triton.weighted_bce import log1p


def pairwise(
    positive: Tensor, negative: Tensor, weights: Tensor | None, loss: str, margin: float, *, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (loss Float[B], unit gradients Float[B] and Float[B, n]), the gradients empty if not asked for."""
    dtype, device = compute_dtype(positive, negative), positive.device
    rows, width = negative.shape
    out = new((rows,), dtype, device)
    unit_positive = new((rows if gradient else 0,), dtype, device)
    unit_negative = new((rows, width) if gradient else (0, 0), dtype, device)
    step, columns = tile(width)
    if rows:
        _loss[(triton.cdiv(rows, step),)](
            positive.contiguous(), negative.contiguous(), contiguous(weights), out, unit_positive, unit_negative,
            rows, width, *split(margin),
            HINGE=loss == "margin", GRADIENT=gradient, ROWS=step, COLS=columns, TYPE=TRITON[dtype],
        )  # fmt: skip
    return out, unit_positive, unit_negative


@triton.jit
def _loss(
    positive, negative, weights, loss, unit_positive, unit_negative, B, C, margin, margin_rest,
    HINGE: tl.constexpr, GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Each program takes ROWS rows, COLS negatives at a time. positive, loss [B]; negative, weights [B, C]."""
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = pairwise_rows(
        positive, negative, weights, unit_positive, unit_negative, b, B, C, 1, C, margin, margin_rest,
        HINGE, GRADIENT, ROWS, COLS, TYPE,
    )  # fmt: skip
    tl.store(loss + b, total, b < B)


@triton.jit
def pairwise_rows(
    positive, negative, weights, unit_positive, unit_negative, b, B, C, one, step, margin, margin_rest,
    HINGE: tl.constexpr, GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Return the loss of rows b, Float[ROWS]; store the gradients, which may replace the scores.

    ``one``, ``step``: numbers from a row's positive, and from its negatives, to those of the next row.
    """
    p = tl.load(positive + b * one, b < B, other=float("-inf")).to(TYPE)
    won = p != float("-inf")
    p = tl.where(won, p, 0.0)
    count = tl.zeros([ROWS], tl.int32)
    for start in range(0, C, COLS):
        c = start + tl.arange(0, COLS)
        live = (b < B)[:, None] & (c < C)[None, :]
        n = tl.load(negative + b[:, None] * step + c[None, :], live, other=float("-inf"))
        count += tl.sum((won[:, None] & (n != float("-inf"))).to(tl.int32), 1)
    share = 1.0 / tl.maximum(count, 1).to(TYPE)

    total = tl.zeros([ROWS], TYPE)
    edge = real(margin, margin_rest, TYPE)[:, None]
    slope = tl.zeros([ROWS], TYPE)
    for start in range(0, C, COLS):
        c = start + tl.arange(0, COLS)
        live = (b < B)[:, None] & (c < C)[None, :]
        at = b[:, None] * step + c[None, :]
        n = tl.load(negative + at, live, other=float("-inf")).to(TYPE)
        there = won[:, None] & (n != float("-inf"))
        x = p[:, None] - tl.where(there, n, 0.0)
        if HINGE:
            short = edge - x
            # not (short <= 0), so that NaN stays NaN
            value = tl.where(short <= 0, 0.0, short)
            push = tl.where(short <= 0, 0.0, tl.where(short != short, short, 1.0))
        else:
            e = tl.exp(-tl.abs(x))
            value = tl.where(x >= 0, 0.0, -x) + log1p(e)
            push = tl.where(x >= 0, e, 1.0) / (1.0 + e)
        weight = tl.where(there, share[:, None], 0.0)
        if weights is not None:
            given = tl.load(weights + b[:, None] * C + c[None, :], live, other=0.0).to(TYPE)
            weight = tl.where(there, weight * given, 0.0)
        total += tl.sum(tl.where(there, weight * value, 0.0), 1)
        if GRADIENT:
            push = tl.where(there, weight * push, 0.0)
            slope -= tl.sum(push, 1)
            tl.debug_barrier()  # the gradient may replace the scores
            tl.store(unit_negative + at, push, live)
    if GRADIENT:
        tl.debug_barrier()
        tl.store(unit_positive + b * one, slope, b < B)
    return total


CONFIGURATIONS = tuple(
    configuration(
        f"{'margin' if hinge else 'bpr'}-{rows}x{columns}", _loss,
        dict.fromkeys(("positive", "negative", "loss", "unit_positive", "unit_negative"), "*fp32"),
        {"B": "i32", "C": "i32", "margin": "fp32", "margin_rest": "fp32"},
        {"weights": None, "HINGE": hinge, "GRADIENT": True, "ROWS": rows, "COLS": columns,
         "TYPE": TRITON[torch.float32]},
    )
    for hinge in (False, True) for rows, columns in ((1, 1024), (1024, 1))
)  # fmt: skip
