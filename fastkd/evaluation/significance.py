"""Is a difference between two sources more than chance? Paired tests over users.

With ``d_u = a_u - b_u`` for the ``n`` users that both evaluations cover:

- **t-test**: ``t = mean(d) / (std(d) / sqrt(n))``, two-sided, ``n - 1`` degrees of freedom.
- **Randomisation test** (Fisher): under the null the sign of each ``d_u`` is a coin flip. With ``T`` the
  observed ``|mean(d)|`` and ``T_r`` that of random flips, ``p = (1 + #{T_r >= T}) / (1 + R)``. Where at
  most ``log2(R)`` users differ, all ``2^n`` flips are enumerated and ``p`` is exact.
- **Bootstrap**: users drawn with replacement; percentile interval of ``mean(d)``.

Flips and draws are pure functions of (seed, index of the permutation or resample). Smucker, Allan,
Carterette, "A comparison of statistical significance tests for information retrieval evaluation"
(CIKM'07), compares the three.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from fastkd.core.errors import ConfigError, DataError, did_you_mean
from fastkd.core.seeds import Seeds
from fastkd.evaluation.metrics import Floats
from fastkd.evaluation.ranking import Evaluation, check_comparable

_BLOCK = 1 << 22
# Sums that are equal on paper differ in the last bits; count them as equal.
_SLACK = 1.0 - 1e-12


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Outcome of :func:`paired_test`; differences are ``a - b``, p-values two-sided.

    ``p_value`` is that of the randomisation test with ``permutations`` flips (``exact``: all of them),
    ``t_p_value`` that of the t-test. ``low`` and ``high`` bound the bootstrap interval.
    """

    metric: str
    num_users: int
    mean_a: float
    mean_b: float
    mean_difference: float
    t_statistic: float
    t_p_value: float
    p_value: float
    permutations: int
    exact: bool
    confidence: float
    low: float
    high: float


def paired_test(
    a: Evaluation,
    b: Evaluation,
    metric: str,
    *,
    permutations: int = 10_000,
    resamples: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Test whether ``a`` and ``b`` differ in ``metric`` on the same users; formulas in the module's docstring.

    Raises ``DataError`` where the evaluations cover other users, splits or masks, lack the metric, or hold fewer
    than two users; ``ConfigError`` for ``permutations`` or ``resamples`` below 1 and ``confidence`` outside (0, 1).
    """
    _check_options(permutations, resamples, confidence)
    check_comparable(a, b)
    difference = _values(a, metric) - _values(b, metric)
    if len(difference) < 2:
        raise DataError(f"a paired test needs at least 2 users, got {len(difference)}")
    t_statistic, t_p_value = _t_test(difference)
    p_value, flips, exact = _sign_flips(difference, permutations, Seeds(seed))
    low, high = _bootstrap(difference, resamples, confidence, Seeds(seed))
    return PairedTest(
        metric=metric,
        num_users=len(difference),
        mean_a=a.metrics[metric],
        mean_b=b.metrics[metric],
        mean_difference=float(difference.mean()),
        t_statistic=t_statistic,
        t_p_value=t_p_value,
        p_value=p_value,
        permutations=flips,
        exact=exact,
        confidence=confidence,
        low=low,
        high=high,
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's step-down adjusted p-values of several comparisons, in the given order.

    The i-th smallest of m becomes ``max_{j <= i} min(1, (m - j + 1) * p_(j))``; rejecting those below alpha
    keeps the chance of any false rejection below alpha (Holm, 1979).
    """
    for name, value in p_values.items():
        if not 0.0 <= value <= 1.0:
            raise DataError(f"p-value of {name!r} is {value}, outside [0, 1]")
    adjusted: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda n: p_values[n])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def _check_options(permutations: int, resamples: int, confidence: float) -> None:
    for name, value in (("permutations", permutations), ("resamples", resamples)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    if not 0.0 < confidence < 1.0:
        raise ConfigError(f"confidence must lie in (0, 1), got {confidence}")


def _values(evaluation: Evaluation, metric: str) -> Floats:
    if metric not in evaluation.per_user:
        known = sorted(evaluation.per_user)
        raise DataError(
            f"no metric {metric!r} in the evaluation.{did_you_mean(metric, known)} It has: {', '.join(known)}"
        )
    return np.asarray(evaluation.per_user[metric], dtype=np.float64)


def _t_test(difference: Floats) -> tuple[float, float]:
    mean, spread = float(difference.mean()), float(difference.std(ddof=1))
    if spread == 0.0:
        return (0.0, 1.0) if mean == 0.0 else (math.copysign(math.inf, mean), 0.0)
    t = mean / (spread / math.sqrt(len(difference)))
    return t, float(2.0 * special.stdtr(len(difference) - 1, -abs(t)))


def _sign_flips(difference: Floats, permutations: int, seeds: Seeds) -> tuple[float, int, bool]:
    """Return (p-value, number of flips, whether they are all of them); users without a difference are idle."""
    moved = difference[difference != 0.0]
    if 2 ** min(len(moved), 62) <= permutations:
        codes = np.arange(2 ** len(moved), dtype=np.int64)
        signs = 1.0 - 2.0 * ((codes[:, None] >> np.arange(len(moved))) & 1)
        sums = np.abs(signs @ moved)
        return float(np.mean(sums >= sums[0] * _SLACK)), len(codes), True
    total = float(moved.sum())
    threshold, extreme = abs(total) * _SLACK, 0
    size, rows = (len(moved) + 7) // 8, max(1, _BLOCK // len(moved))
    for start in range(0, permutations, rows):
        block = range(start, min(start + rows, permutations))
        draws = [np.frombuffer(seeds.numpy("sign-flip", r).bytes(size), dtype=np.uint8) for r in block]
        flipped = np.unpackbits(np.stack(draws), axis=1, count=len(moved)).astype(np.float64) @ moved
        extreme += int(np.count_nonzero(np.abs(total - 2.0 * flipped) >= threshold))
    return (1 + extreme) / (1 + permutations), permutations, False


def _bootstrap(difference: Floats, resamples: int, confidence: float, seeds: Seeds) -> tuple[float, float]:
    count = len(difference)
    means = np.empty(resamples)
    for r in range(resamples):
        drawn = seeds.numpy("bootstrap", r).integers(0, count, size=count)
        means[r] = difference[drawn].mean()
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
