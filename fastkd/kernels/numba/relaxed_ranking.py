"""Relaxed Plackett-Luce loss of each row on the CPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, K ranked, L unranked. The arithmetic of a row is in ``_relaxed_ranking``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new, optional
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._relaxed_ranking import relaxed_ranking_row, scratch
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]


def relaxed_ranking(
    ranked: Tensor, unranked: Tensor, weights: Tensor | None, *, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (loss Float[B], unit gradients Float[B, K] and Float[B, L]), the gradients empty if not asked for."""
    dtype = compute_dtype(ranked, unranked)
    rows = len(ranked)
    loss = new((rows,), dtype)
    unit_ranked = new(ranked.shape if gradient else (0, 0), dtype)
    unit_unranked = new(unranked.shape if gradient else (0, 0), dtype)
    run_rows(
        _loss, rows, 12 * ranked.shape[1] + 3 * unranked.shape[1],
        array(ranked, dtype), array(unranked, dtype), optional(weights, dtype), weights is not None, gradient,
        loss, unit_ranked, unit_unranked,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit_ranked), torch.from_numpy(unit_unranked)


@jit()
def _loss(
    ranked: Floats, unranked: Floats, weights: Floats, weighted: bool, gradient: bool,
    loss: Floats, unit_ranked: Floats, unit_unranked: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    memory = scratch(ranked.shape[1], unranked.shape[1])
    nothing = np.empty(0, dtype=loss.dtype)
    for b in range(start, stop):
        loss[b] = relaxed_ranking_row(
            ranked[b], unranked[b], weights[b] if weighted else nothing, weighted, gradient,
            unit_ranked[b] if gradient else nothing, unit_unranked[b] if gradient else nothing, memory,
        )  # fmt: skip
