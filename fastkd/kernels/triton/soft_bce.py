"""Binary cross entropy with a teacher's probabilities on the GPU: see ``weighted_bce``, whose kernel this is."""

from __future__ import annotations

import triton
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import TRITON, compute_dtype, contiguous, split, tile
from fastkd.kernels.triton.weighted_bce import bce


def soft_bce(
    scores: Tensor, teacher: Tensor, weights: Tensor | None, temperature: float, shift: float, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, C]), the gradient empty if not asked for."""
    dtype, device = compute_dtype(scores), scores.device
    rows, width = scores.shape
    loss = new((rows,), dtype, device)
    unit = new((rows, width) if gradient else (0, 0), dtype, device)
    step, columns = tile(width)
    if rows:
        bce[(triton.cdiv(rows, step),)](
            scores.contiguous(), teacher.contiguous(), contiguous(weights), loss, unit, rows, width,
            *split(1.0 / temperature), *split(shift),
            TEACHER=True, GRADIENT=gradient, ROWS=step, COLS=columns, TYPE=TRITON[dtype],
        )  # fmt: skip
    return loss, unit
