"""Pairwise losses of one positive against n negatives on the CPU, and their gradients for an upstream gradient of 1.

Shapes: B rows, n negatives.
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


def pairwise(
    positive: Tensor, negative: Tensor, weights: Tensor | None, loss: str, margin: float, *, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (loss Float[B], unit gradients Float[B] and Float[B, n]), the gradients empty if not asked for."""
    dtype = compute_dtype(positive, negative)
    out = new(positive.shape, dtype)
    unit_positive = new(positive.shape if gradient else (0,), dtype)
    unit_negative = new(negative.shape if gradient else (0, 0), dtype)
    run_rows(
        _loss, len(positive), 5 + 10 * negative.shape[1],
        array(positive, dtype), array(negative, dtype), optional(weights, dtype), weights is not None,
        loss == "margin", margin, gradient, out, unit_positive, unit_negative,
    )  # fmt: skip
    return torch.from_numpy(out), torch.from_numpy(unit_positive), torch.from_numpy(unit_negative)


@jit()
def _loss(
    positive: Floats, negative: Floats, weights: Floats, weighted: bool, hinge: bool, margin: float, gradient: bool,
    out: Floats, unit_positive: Floats, unit_negative: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    memory = np.empty((2, negative.shape[1]), dtype=out.dtype)
    for b in range(start, stop):
        weight = weights[b] if weighted else negative[b][:0]
        unit = unit_negative[b] if gradient else negative[b][:0]
        out[b], slope = pairwise_row(positive[b], negative[b], weight, weighted, hinge, margin, gradient, unit, memory)
        if gradient:
            unit_positive[b] = slope


@jit()
def pairwise_row(
    positive: float, negative: Floats, weights: Floats, weighted: bool, hinge: bool, margin: float, gradient: bool,
    unit_negative: Floats, memory: Floats,
) -> tuple[float, float]:  # fmt: skip
    """Return the loss of a row and its slope in the positive; write those in the negatives, which they may replace.

    ``memory``: Float[2, n] or wider, of the dtype of the scores. No loop has a branch that its numbers decide, so each
    becomes vector code.
    """
    width, p, count = len(negative), positive, 0
    real = memory.dtype.type
    zero, one, wanted = real(0), real(1), real(margin)
    values, push = memory[0], memory[1]
    for j in range(width):
        count += negative[j] != -np.inf
    if p == -np.inf or count == 0:
        if gradient:
            unit_negative[:] = 0
        return 0.0, 0.0
    if hinge:
        for j in range(width):
            short = wanted - (p - negative[j])
            # not (short <= 0), so that NaN stays NaN
            values[j] = zero if short <= 0 else short
            push[j] = zero if short <= 0 else (one if short == short else short)
    else:
        for j in range(width):
            x = p - negative[j]
            tail, _, down = logistic(x)
            values[j] = tail + (-x if x < zero else zero)
            push[j] = down
    share = one / real(count)
    for j in range(width):
        weight = weights[j] if weighted else one
        there = negative[j] != -np.inf
        values[j] = weight * values[j] if there else zero
        push[j] = (weight * push[j]) * share if there else zero
    if gradient:
        for j in range(width):
            unit_negative[j] = push[j]
    return total(values, width) / count, -total(push, width)
