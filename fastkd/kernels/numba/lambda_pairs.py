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
from fastkd.kernels.numba._exp import exp, total
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._log1p import log1p
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
KINDS = {"uniform": 0, "lambdarank": 1, "lambdaloss": 2, "given": 3}


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
        KINDS[weights], float(sigma), gradient, loss, unit,
    )  # fmt: skip
    return torch.from_numpy(loss), torch.from_numpy(unit)


@jit()
def _loss(
    scores: Floats, gains: Floats, graded: bool, pair_weights: Floats, kind: int, sigma: float, gradient: bool,
    loss: Floats, unit: Floats, start: int, stop: int,
) -> None:  # fmt: skip
    memory, discounts = scratch(scores.shape[1])
    for b in range(start, stop):
        gain = gains[b] if graded else scores[b][:0]
        row = unit[b] if gradient else scores[b][:0]
        loss[b] = lambda_row(scores[b], gain, graded, pair_weights, kind, sigma, gradient, row, memory, discounts)


@jit()
def scratch(width: int) -> tuple[Floats, Floats]:
    """Return memory for :func:`lambda_row`, Float64[8, K], and 1 / log2(1 + r) for ranks r up to K + 2."""
    discounts = np.empty(width + 3)
    for r in range(1, width + 3):
        discounts[r] = 1.0 / np.log2(1.0 + r)
    return np.empty((8, width)), discounts


@jit()
def lambda_row(
    scores: Floats, gains: Floats, graded: bool, pair_weights: Floats, kind: int, sigma: float, gradient: bool,
    unit: Floats, memory: Floats, discounts: Floats,
) -> float:  # fmt: skip
    """Return the loss of a row; write its gradient, which may replace the scores.

    Scores that are there move together first. The loops over pairs have no branch that a number decides.
    """
    # Places are kept as floats, exact up to 2^53, so that one block of memory serves all.
    places, own, slope, gain = memory[0], memory[1], memory[2], memory[3]
    stake, weight, values, push = memory[4], memory[5], memory[6], memory[7]
    count = 0
    for k in range(len(scores)):
        if scores[k] != -np.inf:
            places[count], own[count] = k, scores[k]
            count += 1
    if kind == 1 or kind == 2:
        _prepare(own[:count], places, gains, graded, kind, discounts, gain, stake)
    slope[:count] = 0.0
    loss = 0.0
    for i in range(count):
        rest = count - i - 1
        _weigh(i, count, places, pair_weights, kind, discounts, gain, stake, weight)
        for j in range(rest):
            x = sigma * (own[i] - own[i + 1 + j])
            e = exp(-abs(x))
            values[j] = weight[j] * ((0.0 if x >= 0 else -x) + log1p(e))
            push[j] = weight[j] * sigma * ((e if x >= 0 else 1.0) / (1.0 + e))
        for j in range(rest):
            slope[i + 1 + j] += push[j]
        slope[i] -= total(push, rest)
        loss += total(values, rest)
    if gradient:
        unit[:] = 0.0
        for i in range(count):
            unit[int(places[i])] = slope[i]
    return loss


@jit()
def _weigh(
    i: int, count: int, places: Floats, pair_weights: Floats, kind: int, discounts: Floats, gain: Floats,
    stake: Floats, out: Floats,
) -> None:  # fmt: skip
    """Write the weights of score i's pairs with those after it."""
    for j in range(i + 1, count):
        if kind == 0:
            out[j - i - 1] = 1.0
        elif kind == 1:
            out[j - i - 1] = abs(gain[i] - gain[j]) * abs(stake[i] - stake[j])
        elif kind == 2:
            apart = int(abs(stake[i] - stake[j]))
            out[j - i - 1] = abs(gain[i] - gain[j]) * (discounts[apart] - discounts[apart + 1])
        else:
            out[j - i - 1] = pair_weights[int(places[i]), int(places[j])]


@jit()
def _prepare(
    own: Floats, places: Floats, gains: Floats, graded: bool, kind: int, discounts: Floats, gain: Floats, stake: Floats
) -> None:
    """Write the normalised gain of each score that is there, and its rank, or for kind 1 the discount of its rank."""
    count, ideal = len(own), 0.0
    for i in range(count):
        place = int(places[i])
        gain[i] = np.float64(gains[place]) if graded else discounts[place + 1]
        ideal += gain[i] * discounts[i + 1]
    for i in range(count):
        gain[i] = gain[i] / ideal if ideal > 0 else gain[i] * 0.0
        rank = 1
        for j in range(i):
            rank += own[j] >= own[i]
        for j in range(i + 1, count):
            rank += own[j] > own[i]
        stake[i] = discounts[rank] if kind == 1 else np.float64(rank)
