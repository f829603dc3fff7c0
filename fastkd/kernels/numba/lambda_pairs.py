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
from fastkd.kernels.numba._exp import total
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._logistic import logistic
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Memory = tuple[Floats, Floats, Floats]
_BLOCK = 512
"""Pairs at a time, give or take a row of them: what is kept of them stays in the nearest cache."""
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
    memory = scratch(scores.shape[1], loss)
    for b in range(start, stop):
        gain = gains[b] if graded else scores[b][:0]
        row = unit[b] if gradient else scores[b][:0]
        loss[b] = lambda_row(scores[b], gain, graded, pair_weights, kind, sigma, gradient, row, memory)


@jit()
def scratch(width: int, like: Floats) -> Memory:
    """Return memory for :func:`lambda_row`: Float64[4, K], scores and pairs in the dtype of ``like``, discounts.

    The discount of rank r is 1 / log2(1 + r).
    """
    discounts = np.empty(width + 3)
    for r in range(1, width + 3):
        discounts[r] = 1.0 / np.log2(1.0 + r)
    return np.empty((4, width)), np.empty((5, _BLOCK + width), dtype=like.dtype), discounts


@jit()
def lambda_row(
    scores: Floats, gains: Floats, graded: bool, pair_weights: Floats, kind: int, sigma: float, gradient: bool,
    unit: Floats, memory: Memory,
) -> float:  # fmt: skip
    """Return the loss of a row; write its gradient, which may replace the scores.

    Scores that are there move together first. Pairs (i, j) are laid out one after another, those of as many i as fill
    a block, so that lists of a few items become vector code too; no loop over them has a branch that a number decides.
    """
    numbers, pairs, discounts = memory
    # Places are kept as floats, exact up to 2^53, so that one block of memory serves all.
    places, slope, gain, stake = numbers[0], numbers[1], numbers[2], numbers[3]
    apart, weight, push, own = pairs[0], pairs[1], pairs[3], pairs[4]
    steep = pairs.dtype.type(sigma)
    count = 0
    for k in range(len(scores)):
        if scores[k] != -np.inf:
            places[count], own[count] = k, scores[k]
            count += 1
    if kind == 1 or kind == 2:
        _prepare(own[:count], places, gains, graded, kind, discounts, gain, stake)
    slope[:count] = 0.0
    loss, first, filled = 0.0, 0, 0
    for i in range(count):
        rest, own_score = count - i - 1, own[i]
        for j in range(rest):
            apart[filled + j] = steep * (own_score - own[i + 1 + j])
        _weigh(i, count, places, pair_weights, kind, discounts, gain, stake, weight[filled : filled + rest])
        filled += rest
        if filled >= _BLOCK or rest == 0:
            loss += _logistic_pairs(pairs, filled, sigma)
            filled = 0
            for k in range(first, i + 1):
                pull, others = 0.0, count - k - 1
                for j in range(others):
                    slope[k + 1 + j] += push[filled + j]
                for j in range(others):
                    pull += push[filled + j]
                slope[k] -= pull
                filled += others
            first, filled = i + 1, 0
    if gradient:
        unit[:] = 0
        for i in range(count):
            unit[int(places[i])] = slope[i]
    return loss


@jit()
def _logistic_pairs(pairs: Floats, count: int, sigma: float) -> float:
    """Return the sum of the first ``count`` pairs' weighted losses; write their slopes in the lesser score."""
    apart, weight, values, push = pairs[0], pairs[1], pairs[2], pairs[3]
    real = pairs.dtype.type
    zero, steep = real(0), real(sigma)
    for j in range(count):
        tail, _, down = logistic(apart[j])
        values[j] = weight[j] * (tail + (-apart[j] if apart[j] < zero else zero))
        push[j] = (weight[j] * steep) * down
    return total(values, count)


@jit()
def _weigh(
    i: int, count: int, places: Floats, pair_weights: Floats, kind: int, discounts: Floats, gain: Floats,
    stake: Floats, out: Floats,
) -> None:  # fmt: skip
    """Write the weights of score i's pairs with those after it."""
    rest = count - i - 1
    if kind == 0:
        out[:] = 1
    elif kind == 1:
        for j in range(rest):
            out[j] = abs(gain[i] - gain[i + 1 + j]) * abs(stake[i] - stake[i + 1 + j])
    elif kind == 2:
        for j in range(rest):
            steps = int(abs(stake[i] - stake[i + 1 + j]))
            out[j] = abs(gain[i] - gain[i + 1 + j]) * (discounts[steps] - discounts[steps + 1])
    else:
        row = pair_weights[int(places[i])]
        for j in range(rest):
            out[j] = row[int(places[i + 1 + j])]


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
