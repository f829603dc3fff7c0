"""Binary cross entropy with soft targets on the CPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, C scores of a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new, optional
from fastkd.kernels.numba._exp import exp, total
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log1p import log1p
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]


def weighted_bce(scores: Tensor, targets: Tensor, weights: Tensor | None, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, C]), the gradient empty if not asked for."""
    dtype = compute_dtype(scores)
    loss = new((len(scores),), dtype)
    unit = new(scores.shape if gradient else (0, 0), dtype)
    run_rows(
        bce, len(scores), 10 * scores.shape[1],
        array(scores, dtype), array(targets, dtype), optional(weights, dtype), weights is not None,
        False, 1.0, 0.0, gradient, loss, unit,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit)


@jit()
def bce(
    scores: Floats, targets: Floats, weights: Floats, weighted: bool, teacher: bool, scale: float, shift: float,
    gradient: bool, loss: Floats, unit: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows start to stop: their losses, and their gradients if asked for."""
    memory = scratch(scores.shape[1])
    for b in range(start, stop):
        weight = weights[b] if weighted else scores[b][:0]
        row = unit[b] if gradient else scores[b][:0]
        loss[b] = bce_row(scores[b], targets[b], weight, weighted, teacher, scale, shift, gradient, row, memory)


@jit()
def scratch(width: int) -> Floats:
    """Return memory for :func:`bce_row`, Float64[4, C]."""
    return np.empty((4, width), dtype=np.float64)


@jit()
def bce_row(
    scores: Floats, targets: Floats, weights: Floats, weighted: bool, teacher: bool, scale: float, shift: float,
    gradient: bool, unit: Floats, memory: Floats,
) -> float:  # fmt: skip
    """Return the loss of a row and write its gradient, which may replace the scores.

    With ``teacher``, targets are logits t, and q = sigma((t + shift) scale). No loop has a branch that its numbers
    decide, so each becomes vector code; padding is cut out where a number leaves its loop.
    """
    width = len(scores)
    q, rest, values, slopes = memory[0], memory[1], memory[2], memory[3]
    if teacher:
        for c in range(width):
            x = (np.float64(targets[c]) + shift) * scale
            small = exp(-abs(x))
            # q and 1 - q, each without taking two numbers near 1 from each other
            q[c] = (1.0 if x >= 0 else small) / (1.0 + small)
            rest[c] = (small if x >= 0 else 1.0) / (1.0 + small)
    else:
        for c in range(width):
            q[c] = targets[c]
            rest[c] = 1.0 - q[c]
    for c in range(width):
        s = np.float64(0.0 if scores[c] == -np.inf else scores[c])
        e = exp(-abs(s))
        tail, whole = log1p(e), 1.0 + e
        up, down = (1.0 if s >= 0 else e) / whole, (e if s >= 0 else 1.0) / whole  # sigma(s), sigma(-s)
        yes, no = tail - (0.0 if s >= 0 else s), tail + (s if s >= 0 else 0.0)  # -log sigma(s), -log sigma(-s)
        values[c] = q[c] * yes + rest[c] * no
        # sigma(s) - q without taking two numbers near 1 from each other
        slopes[c] = rest[c] * up - q[c] * down
    for c in range(width):
        weight = np.float64(weights[c]) if weighted else 1.0
        there = scores[c] != -np.inf
        values[c] = weight * values[c] if there else 0.0
        slopes[c] = weight * slopes[c] if there else 0.0
    if gradient:
        for c in range(width):
            unit[c] = slopes[c]
    return total(values, width)
