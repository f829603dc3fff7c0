"""Squared differences of two matrices of cosines, weighted, in one pass over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]


def weigh_gaps(found: Tensor, wanted: Tensor, left: Tensor, right: Tensor, positive_only: bool) -> tuple[float, float]:
    """Return ``sum_ij m_ij gap_ij^2`` and ``sum_ij m_ij``; ``found`` [n, N] becomes ``m_ij gap_ij``.

    ``gap = found - wanted``; ``m_ij = left_i right_j``, 0 where ``wanted`` is not positive if only those count. A row's
    sums are its own, in float64 from there on: bits do not depend on threads.
    """
    sums = np.empty((2, len(found)))
    arguments = (found.numpy(), wanted.numpy(), left.numpy(), right.numpy(), positive_only, sums)
    run_rows(_weigh_rows, len(found), 0.2 * found.shape[1] + 5.0, *arguments)
    loss, pairs = torch.from_numpy(sums).sum(1).tolist()
    return loss, pairs


# Sums of a row may be taken in the order of the registers; NaN stays what it is.
@jit(fastmath={"reassoc", "contract"})
def _weigh_rows(
    found: Floats, wanted: Floats, left: Floats, right: Floats, positive_only: bool, sums: Floats,
    start: int, stop: int,
) -> None:  # fmt: skip
    nothing = found.dtype.type(0)
    for i in range(start, stop):
        own, target, row = left[i], wanted[i], found[i]
        loss, pairs = nothing, nothing
        for j in range(row.shape[0]):
            mask = own * right[j]
            if positive_only and not target[j] > nothing:
                mask = nothing
            gap = row[j] - target[j]
            weighted = mask * gap
            loss += weighted * gap
            pairs += mask
            row[j] = weighted
        sums[0, i] = loss
        sums[1, i] = pairs
