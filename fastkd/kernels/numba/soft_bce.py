"""Binary cross entropy with a teacher's probabilities on the CPU: see ``weighted_bce``, whose kernel this is."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new, optional
from fastkd.kernels.numba._threads import run_rows
from fastkd.kernels.numba.weighted_bce import bce


def soft_bce(
    scores: Tensor, teacher: Tensor, weights: Tensor | None, temperature: float, shift: float, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, C]), the gradient empty if not asked for."""
    dtype = compute_dtype(scores)
    loss = new((len(scores),), dtype)
    unit = new(scores.shape if gradient else (0, 0), dtype)
    run_rows(
        bce, len(scores), 14 * scores.shape[1],
        array(scores, dtype), array(teacher, dtype), optional(weights, dtype), weights is not None,
        True, 1.0 / temperature, shift, gradient, loss, unit,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit)
