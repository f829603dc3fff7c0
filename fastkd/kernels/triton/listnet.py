"""ListNet's cross entropy of each row on the GPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, C scores of a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._listnet import listnet_rows
from fastkd.kernels.triton._rows import TRITON, compute_dtype, configuration, split, tile


def listnet(scores: Tensor, teacher: Tensor, temperature: float, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, C]), the gradient empty if not asked for."""
    dtype, device = compute_dtype(scores), scores.device
    rows, width = scores.shape
    loss = new((rows,), dtype, device)
    unit = new((rows, width) if gradient else (0, 0), dtype, device)
    step, columns = tile(width)
    if rows:
        _loss[(triton.cdiv(rows, step),)](
            scores.contiguous(), teacher.contiguous(), loss, unit, rows, width, *split(1.0 / temperature),
            GRADIENT=gradient, ROWS=step, COLS=columns, TYPE=TRITON[dtype],
        )  # fmt: skip
    return loss, unit


@triton.jit
def _loss(
    scores, teacher, loss, unit, B, C, scale, scale_rest,
    GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Each program takes ROWS rows, COLS scores at a time. scores, teacher, unit [B, C]; loss [B]."""
    b = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    total = listnet_rows(scores, teacher, unit, b, B, C, scale, scale_rest, GRADIENT, ROWS, COLS, TYPE)
    tl.store(loss + b, total, b < B)


CONFIGURATIONS = tuple(
    configuration(
        f"rows-{rows}x{columns}", _loss, dict.fromkeys(("scores", "teacher", "loss", "unit"), "*fp32"),
        {"B": "i32", "C": "i32", "scale": "fp32", "scale_rest": "fp32"},
        {"GRADIENT": True, "ROWS": rows, "COLS": columns, "TYPE": TRITON[torch.float32]},
    )
    for rows, columns in ((1, 1024), (8, 128))
)  # fmt: skip
