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
from fastkd.kernels.numba._exp import exp
from fastkd.kernels.numba._jit import jit
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
    width = negative.shape[1]
    for b in range(start, stop):
        p = np.float64(positive[b])
        count = 0
        if p != -np.inf:
            for j in range(width):
                count += negative[b, j] != -np.inf
        total, slope = 0.0, 0.0
        for j in range(width):
            n = np.float64(negative[b, j])
            if count == 0 or n == -np.inf:
                if gradient:
                    unit_negative[b, j] = 0.0
                continue
            weight = (np.float64(weights[b, j]) if weighted else 1.0) / count
            if hinge:
                short = margin - (p - n)
                value, push = (0.0, 0.0) if short <= 0 else (short, 1.0)
                if short != short:
                    push = short
            else:
                x = p - n
                e = exp(-abs(x))
                value = max(-x, 0.0) + np.log1p(e)
                push = (e if x >= 0 else 1.0) / (1.0 + e)
            total += weight * value
            slope -= weight * push
            if gradient:
                unit_negative[b, j] = weight * push
        out[b] = total
        if gradient:
            unit_positive[b] = slope
