"""Binary cross entropy with soft targets on the GPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, C scores of a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import TRITON, compute_dtype, configuration, contiguous, real, tile


def weighted_bce(scores: Tensor, targets: Tensor, weights: Tensor | None, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, C]), the gradient empty if not asked for."""
    dtype, device = compute_dtype(scores), scores.device
    rows, width = scores.shape
    loss = new((rows,), dtype, device)
    unit = new((rows, width) if gradient else (0, 0), dtype, device)
    step, columns = tile(width)
    if rows:
        bce[(triton.cdiv(rows, step),)](
            scores.contiguous(), targets.contiguous(), contiguous(weights), loss, unit, rows, width, 1.0, 0.0, 0.0, 0.0,
            TEACHER=False, GRADIENT=gradient, ROWS=step, COLS=columns, TYPE=TRITON[dtype],
        )  # fmt: skip
    return loss, unit


@triton.jit
def bce(
    scores, targets, weights, loss, unit, B, C, scale, scale_rest, shift, shift_rest,
    TEACHER: tl.constexpr, GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Walk along ROWS rows, COLS scores at a time. scores, targets, weights, unit [B, C]; loss [B]."""
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = bce_rows(
        scores, targets, weights, unit, b, B, C, scale, scale_rest, shift, shift_rest,
        TEACHER, GRADIENT, ROWS, COLS, TYPE,
    )  # fmt: skip
    tl.store(loss + b, total, b < B)


@triton.jit
def bce_rows(
    scores, targets, weights, unit, b, B, C, scale, scale_rest, shift, shift_rest,
    TEACHER: tl.constexpr, GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Return the loss of rows b, Float[ROWS]; store the gradient, which may replace the scores.

    With TEACHER, targets holds logits t of the teacher: q = sigma((t + shift) scale).
    """
    total = tl.zeros([ROWS], TYPE)
    for start in range(0, C, COLS):
        c = start + tl.arange(0, COLS)
        live = (b < B)[:, None] & (c < C)[None, :]
        at = b[:, None] * C + c[None, :]
        s = tl.load(scores + at, live, other=float("-inf")).to(TYPE)
        there = s != float("-inf")
        s = tl.where(there, s, 0.0)
        q = tl.load(targets + at, live, other=0.0).to(TYPE)
        rest = 1.0 - q
        if TEACHER:
            x = (q + real(shift, shift_rest, TYPE)[:, None]) * real(scale, scale_rest, TYPE)[:, None]
            small = tl.exp(-tl.abs(x))
            # q and 1 - q, each without taking two numbers near 1 from each other
            q = tl.where(x >= 0, 1.0, small) / (1.0 + small)
            rest = tl.where(x >= 0, small, 1.0) / (1.0 + small)
        e = tl.exp(-tl.abs(s))
        tail = log1p(e)
        yes = tl.where(s >= 0, tail, tail - s)  # -log sigma(s)
        no = tl.where(s >= 0, s + tail, tail)  # -log sigma(-s)
        weight = tl.where(there, 1.0, 0.0).to(TYPE)
        if weights is not None:
            weight = tl.where(there, tl.load(weights + at, live, other=0.0).to(TYPE), 0.0)
        total += tl.sum(tl.where(there, weight * (q * yes + rest * no), 0.0), 1)
        if GRADIENT:
            up = tl.where(s >= 0, 1.0, e) / (1.0 + e)  # sigma(s)
            down = tl.where(s >= 0, e, 1.0) / (1.0 + e)
            tl.debug_barrier()  # the gradient may replace the scores
            tl.store(unit + at, tl.where(there, weight * (rest * up - q * down), 0.0), live)
    return total


@triton.jit
def log1p(x):
    """Return log(1 + x), for 0 <= x <= 1, with a small relative error (Goldberg 1991, theorem 4)."""
    y = 1.0 + x
    # y - 1 is exact; where it is 0, log(1 + x) = x to the last bit
    return tl.where(y == 1.0, x, tl.log(y) * (x / tl.where(y == 1.0, 1.0, y - 1.0)))


CONFIGURATIONS = tuple(
    configuration(
        f"{name}-{rows}x{columns}", bce,
        dict.fromkeys(("scores", "targets", "loss", "unit"), "*fp32"),
        {"B": "i32", "C": "i32", "scale": "fp32", "scale_rest": "fp32", "shift": "fp32", "shift_rest": "fp32"},
        {"weights": None, "TEACHER": name == "soft", "GRADIENT": True, "ROWS": rows, "COLS": columns,
         "TYPE": TRITON[torch.float32]},
    )
    for name in ("bce", "soft") for rows, columns in ((1, 1024), (16, 64))
)  # fmt: skip
