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
from fastkd.kernels.numba._exp import total
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._logistic import logistic
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
    memory = scratch(scores.shape[1], loss)
    for b in range(start, stop):
        weight = weights[b] if weighted else scores[b][:0]
        row = unit[b] if gradient else scores[b][:0]
        loss[b] = bce_row(scores[b], targets[b], weight, weighted, teacher, scale, shift, gradient, row, memory)


@jit()
def scratch(width: int, like: Floats) -> Floats:
    """Return memory for :func:`bce_row`, Float[4, C] of the dtype of ``like``."""
    return np.empty((4, width), dtype=like.dtype)


@jit()
def bce_row(
    scores: Floats, targets: Floats, weights: Floats, weighted: bool, teacher: bool, scale: float, shift: float,
    gradient: bool, unit: Floats, memory: Floats,
) -> float:  # fmt: skip
    """Return the loss of a row and write its gradient, which may replace the scores.

    With ``teacher``, targets are logits t, and q = sigma((t + shift) scale). No loop has a branch that its numbers
    decide, so each becomes vector code; padding is cut out where a number leaves its loop.
    """
    width, real = len(scores), memory.dtype.type
    zero, one, factor, move = real(0), real(1), real(scale), real(shift)
    q, rest, values, slopes = memory[0], memory[1], memory[2], memory[3]
    if teacher:
        for c in range(width):
            # q and 1 - q, each without taking two numbers near 1 from each other
            _, q[c], rest[c] = logistic((targets[c] + move) * factor)
    else:
        for c in range(width):
            q[c] = targets[c]
            rest[c] = one - q[c]
    for c in range(width):
        s = zero if scores[c] == -np.inf else scores[c]
        tail, up, down = logistic(s)
        yes, no = tail + max(-s, zero), tail + max(s, zero)  # -log sigma(s), -log sigma(-s)
        values[c] = q[c] * yes + rest[c] * no
        # sigma(s) - q without taking two numbers near 1 from each other
        slopes[c] = rest[c] * up - q[c] * down
    for c in range(width):
        weight = weights[c] if weighted else one
        there = scores[c] != -np.inf
        values[c] = weight * values[c] if there else zero
        slopes[c] = weight * slopes[c] if there else zero
    if gradient:
        for c in range(width):
            unit[c] = slopes[c]
    return total(values, width)
