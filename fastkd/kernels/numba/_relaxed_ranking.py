"""The relaxed Plackett-Luce loss of one row of scores, and its gradient with respect to them.

Shapes: K ranked scores, L unranked ones. The suffix mass A_k = sum_{j>=k} e^{r_j} + sum_l e^{u_l} is carried as
(largest score, sum of e^{s - largest}) from the end of the list, and every factor of the gradient is a ratio of such
masses, never above 1. Two exponentials per ranked score (its own, and of the step of the maximum), one per other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._exp import exp, exps, largest, total
from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]


@jit()
def scratch(ranked: int, unranked: int) -> Floats:
    """Return memory for :func:`relaxed_ranking_row`, Float64[4, max(K, L) + 1]."""
    return np.empty((4, max(ranked, unranked) + 1), dtype=np.float64)


@jit()
def relaxed_ranking_row(
    ranked: Floats, unranked: Floats, weights: Floats, weighted: bool, gradient: bool,
    unit_ranked: Floats, unit_unranked: Floats, memory: Floats,
) -> float:  # fmt: skip
    """Return the loss of a row; write its gradient, which may replace the scores."""
    length, others = len(ranked), len(unranked)
    masses, share, kept, tops = memory[0], memory[1], memory[2], memory[3]
    top = largest(unranked)
    exps(unranked, top, masses)
    rest = total(masses, others)

    tops[length] = top
    for k in range(length - 1, -1, -1):
        top = ranked[k] if ranked[k] > top else top
        tops[k] = top
    for k in range(length):
        share[k] = exp(np.float64(ranked[k]) - tops[k])
        kept[k] = exp(tops[k + 1] - tops[k])

    # From the last ranked item to the first: mass e^tops[k] is A_k.
    mass, loss, product = rest, 0.0, 1.0
    for k in range(length - 1, -1, -1):
        s = np.float64(ranked[k])
        if s == -np.inf:
            continue
        own, below = share[k], mass * kept[k]
        mass = own + below
        share[k], kept[k] = own / mass, below / mass
        if weighted:
            loss += np.float64(weights[k]) * ((tops[k] - s) + np.log(mass))
        else:
            # One logarithm for many masses: each lies in [1, K + L].
            loss += tops[k] - s
            product *= mass
            if product > 1e200:
                loss += np.log(product)
                product = 1.0
    loss += np.log(product)

    if gradient:
        # pressure = sum_{j<=k} w_j A_k / A_j: what the items before k, and k itself, ask of the mass from k on.
        pressure, last_kept = 0.0, 1.0
        for k in range(length):
            if ranked[k] == -np.inf:
                unit_ranked[k] = 0.0
                continue
            pressure *= last_kept
            last_kept = kept[k]
            weight = np.float64(weights[k]) if weighted else 1.0
            unit_ranked[k] = share[k] * pressure - weight * last_kept
            pressure += weight
        scale = pressure * last_kept / rest if rest != 0.0 else 0.0
        for j in range(others):
            unit_unranked[j] = masses[j] * scale
    return loss  # type: ignore[no-any-return]
