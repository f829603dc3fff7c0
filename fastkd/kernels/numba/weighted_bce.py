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
from fastkd.kernels.numba._exp import exp
from fastkd.kernels.numba._jit import jit
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
    for b in range(start, stop):
        weight = weights[b] if weighted else scores[b][:0]
        row = unit[b] if gradient else scores[b][:0]
        loss[b] = bce_row(scores[b], targets[b], weight, weighted, teacher, scale, shift, gradient, row)


@jit()
def bce_row(
    scores: Floats, targets: Floats, weights: Floats, weighted: bool, teacher: bool, scale: float, shift: float,
    gradient: bool, unit: Floats,
) -> Any:  # fmt: skip
    """Return the loss of a row and write its gradient, which may replace the scores.

    With ``teacher``, targets are logits t, and q = sigma((t + shift) scale).
    """
    total = 0.0
    for c in range(len(scores)):
        s = np.float64(scores[c])
        if s == -np.inf:
            if gradient:
                unit[c] = 0.0
            continue
        given = np.float64(targets[c])
        q, rest = given, 1.0 - given
        if teacher:
            x = (given + shift) * scale
            small = exp(-abs(x))
            # q and 1 - q, each without taking two numbers near 1 from each other
            q = np.float64((1.0 if x >= 0 else small) / (1.0 + small))
            rest = np.float64((small if x >= 0 else 1.0) / (1.0 + small))
        weight = np.float64(weights[c]) if weighted else 1.0
        e = exp(-abs(s))
        tail = np.log1p(e)
        yes, no = (tail, s + tail) if s >= 0 else (tail - s, tail)  # -log sigma(s), -log sigma(-s)
        total += weight * (q * yes + rest * no)
        if gradient:
            small = e / (1.0 + e)
            large = 1.0 / (1.0 + e)
            # sigma(s) - q without taking two numbers near 1 from each other
            unit[c] = weight * (rest * large - q * small if s >= 0 else rest * small - q * large)
    return total
