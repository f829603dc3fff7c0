"""Relaxed Plackett-Luce loss of each row on the CPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, K ranked, L unranked. One exp per score and one log per ranked score serve both passes: the suffix
mass A_k = sum_{j>=k} e^{s_j} + sum_l e^{s_l} is carried as (largest score, sum of e^{s - largest}) from the end of
the list, and every factor of the gradient is a ratio of such masses, never above 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new, optional
from fastkd.kernels.numba._jit import jit
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
        _loss, rows, 20 * ranked.shape[1] + 8 * unranked.shape[1],
        array(ranked, dtype), array(unranked, dtype), optional(weights, dtype), weights is not None, gradient,
        loss, unit_ranked, unit_unranked,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit_ranked), torch.from_numpy(unit_unranked)


@jit()
def _loss(
    ranked: Floats, unranked: Floats, weights: Floats, weighted: bool, gradient: bool,
    loss: Floats, unit_ranked: Floats, unit_unranked: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    length, others = ranked.shape[1], unranked.shape[1]
    share = np.empty(length, dtype=np.float64)  # e^{s_k} / A_k
    kept = np.empty(length, dtype=np.float64)  # A_{k+1} / A_k
    masses = np.empty(others, dtype=np.float64)
    for b in range(start, stop):
        top = -np.inf
        for j in range(others):
            top = max(top, np.float64(unranked[b, j]))
        rest = 0.0
        for j in range(others):
            s = np.float64(unranked[b, j])
            masses[j] = 0.0 if s == -np.inf else np.exp(s - top)
            rest += masses[j]

        # From the last ranked item to the first: top and mass describe A_k.
        mass, total = rest, 0.0
        for k in range(length - 1, -1, -1):
            s = np.float64(ranked[b, k])
            if s == -np.inf:
                continue
            if s <= top:
                own, below = np.exp(s - top), mass
            else:
                own, below = 1.0, mass * np.exp(top - s)
                top = s
            mass = own + below
            share[k], kept[k] = own / mass, below / mass
            weight = np.float64(weights[b, k]) if weighted else 1.0
            total += weight * ((top - s) + np.log(mass))
        loss[b] = total

        if gradient:
            # pressure_k = sum_{j<=k} w_j A_k / A_j: what the items before k, and k itself, ask of the mass from k on.
            pressure, last_kept = 0.0, 1.0
            for k in range(length):
                if ranked[b, k] == -np.inf:
                    unit_ranked[b, k] = 0.0
                    continue
                pressure *= last_kept
                last_kept = kept[k]
                weight = np.float64(weights[b, k]) if weighted else 1.0
                unit_ranked[b, k] = share[k] * pressure - weight * last_kept
                pressure += weight
            scale = pressure * last_kept / rest if rest != 0.0 else 0.0
            for j in range(others):
                unit_unranked[b, j] = masses[j] * scale
