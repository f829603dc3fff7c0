"""Weighted logistic loss of all pairs of a list on the CPU, and its gradient for an upstream gradient of 1.

Shapes: B rows, K scores of a row. Work grows with K^2, memory with K.
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
_KINDS = {"uniform": 0, "lambdarank": 1, "lambdaloss": 2, "given": 3}


def lambda_pairs(
    scores: Tensor, gains: Tensor | None, pair_weights: Tensor | None, weights: str, sigma: float, *, gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return (loss Float[B], unit gradient Float[B, K]), the gradient empty if not asked for."""
    dtype = compute_dtype(scores)
    rows, width = scores.shape
    loss = new((rows,), dtype)
    unit = new((rows, width) if gradient else (0, 0), dtype)
    run_rows(
        _loss, rows, 20 + 8 * width * width,
        array(scores, dtype), optional(gains, dtype), gains is not None, optional(pair_weights, dtype),
        _KINDS[weights], float(sigma), gradient, loss, unit,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit)


@jit()
def _loss(
    scores: Floats, gains: Floats, graded: bool, pair_weights: Floats, kind: int, sigma: float, gradient: bool,
    loss: Floats, unit: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    width = scores.shape[1]
    where = np.empty(width, dtype=np.int64)
    slope, gain, stake = np.empty(width), np.empty(width), np.empty(width)
    inverse_log = np.empty(width + 3)
    for r in range(1, width + 3):
        inverse_log[r] = 1.0 / np.log2(1.0 + r)
    for b in range(start, stop):
        count = 0
        for k in range(width):
            if gradient:
                unit[b, k] = 0.0
            if scores[b, k] != -np.inf:
                where[count] = k
                count += 1
        if kind == 1 or kind == 2:
            _prepare(b, scores, gains, graded, kind, where[:count], inverse_log, gain, stake)
        slope[:count] = 0.0
        total = 0.0
        for i in range(count):
            mine = np.float64(scores[b, where[i]])
            for j in range(i + 1, count):
                x = sigma * (mine - np.float64(scores[b, where[j]]))
                e = exp(-abs(x))
                weight = 1.0
                if kind == 3:
                    weight = np.float64(pair_weights[where[i], where[j]])
                elif kind == 1:
                    weight = abs(gain[i] - gain[j]) * abs(stake[i] - stake[j])
                elif kind == 2:
                    apart = int(abs(stake[i] - stake[j]))
                    weight = abs(gain[i] - gain[j]) * (inverse_log[apart] - inverse_log[apart + 1])
                total += weight * (max(-x, 0.0) + np.log1p(e))
                push = weight * sigma * ((e if x >= 0 else 1.0) / (1.0 + e))
                slope[i] -= push
                slope[j] += push
        loss[b] = total
        if gradient:
            for i in range(count):
                unit[b, where[i]] = slope[i]


@jit()
def _prepare(
    b: int, scores: Floats, gains: Floats, graded: bool, kind: int, where: NDArray[np.int64], inverse_log: Floats,
    gain: Floats, stake: Floats,
) -> None:  # fmt: skip
    """Write the normalised gain of each score that is there, and its rank, or for kind 1 the discount of its rank."""
    count = len(where)
    ideal = 0.0
    for i in range(count):
        gain[i] = np.float64(gains[b, where[i]]) if graded else inverse_log[where[i] + 1]
        ideal += gain[i] * inverse_log[i + 1]
    for i in range(count):
        gain[i] = gain[i] / ideal if ideal > 0 else gain[i] * 0.0
        rank = 1
        mine = scores[b, where[i]]
        for j in range(count):
            other = scores[b, where[j]]
            rank += (other > mine) | ((other == mine) & (j < i))
        stake[i] = inverse_log[rank] if kind == 1 else np.float64(rank)
