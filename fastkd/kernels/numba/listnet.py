"""ListNet's cross entropy of each row on the CPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, C scores of a row. The arithmetic of a row is in ``_listnet``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._listnet import listnet_row
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]


def listnet(scores: Tensor, teacher: Tensor, temperature: float, *, gradient: bool) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, C]), the gradient empty if not asked for."""
    dtype = compute_dtype(scores)
    loss = new((len(scores),), dtype)
    unit = new(scores.shape if gradient else (0, 0), dtype)
    run_rows(
        _loss, len(scores), 8 * scores.shape[1],
        array(scores, dtype), array(teacher, dtype), 1.0 / temperature, gradient, loss, unit,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit)


@jit()
def _loss(
    scores: Floats, teacher: Floats, scale: float, gradient: bool, loss: Floats, unit: Floats, start: int, stop: int
) -> None:
    memory = np.empty((4, scores.shape[1]), dtype=loss.dtype)
    nothing = np.empty(0, dtype=loss.dtype)
    for b in range(start, stop):
        loss[b] = listnet_row(scores[b], teacher[b], scale, gradient, unit[b] if gradient else nothing, memory)
