"""What is done to a tile of student scores s and a tile of teacher scores t of the same users and items.

Written with ``s - top_s`` and ``t - top_t``, so that differences of logarithms keep their digits at any score; sums
over a tile's row are float32 in vector lanes, over tiles float64. Excluded items are at -inf in both tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._catalogue_math import exp, log1p_of_ratio, maximum
from fastkd.kernels.numba._catalogue_sweep import prepare
from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]
Ints = NDArray[Any]

CROSS_ENTROPY, FORWARD_KL, REVERSE_KL, JENSEN_SHANNON = range(4)
KINDS = {
    "cross_entropy": CROSS_ENTROPY,
    "forward_kl": FORWARD_KL,
    "reverse_kl": REVERSE_KL,
    "jensen_shannon": JENSEN_SHANNON,
}

_SUM = frozenset({"reassoc", "contract"})


@jit()
def pair_sums(
    student: Floats, teacher: Floats, bounds: Ints, indices: Ints, first: int, kind: int, sums: Floats
) -> None:
    """Add a tile to (top_s, top_t, mass_s, mass_t, sum of w d, of e^(s - top_s) (s - t)) [6, b].

    All relative to the largest scores so far. w d is ``e^(s - top_s) ((s - top_s) - (t - top_t))`` for the reverse
    divergence, ``e^(t - top_t)`` times the opposite for the forward one, without ``t - top_t`` for the cross entropy.
    The last sum is for the gradient of the reverse one: where one item has all the mass, it is that item's difference
    to the last bit.
    """
    empty = student[0, :0]
    for b in range(len(student)):
        s, t, excluded = student[b], teacher[b], indices[bounds[b, 0] : bounds[b, 1]]
        prepare(s, empty, excluded, first)
        prepare(t, empty, excluded, first)
        top_s, top_t = maximum(s), maximum(t)
        if top_s == -np.inf:
            continue
        before_s, before_t = sums[0, b], sums[1, b]
        if before_s != -np.inf:
            top_s = before_s if top_s <= before_s else top_s
            top_t = before_t if top_t <= before_t else top_t
            _move_tops(sums[:, b], np.float64(top_s), np.float64(top_t), kind)
        sums[0, b], sums[1, b] = top_s, top_t
        _sum_row(s, t, s.dtype.type(top_s), t.dtype.type(top_t), kind, sums[:, b])
        if kind == REVERSE_KL:
            sums[5, b] += _sum_differences(s, t, s.dtype.type(top_s))


@jit()
def _move_tops(sums: Floats, top_s: float, top_t: float, kind: int) -> None:
    """Express sums that were relative to old largest scores relative to new ones."""
    down_s, down_t = sums[0] - top_s, sums[1] - top_t
    if kind == REVERSE_KL:
        sums[4] = (sums[4] + (down_s - down_t) * sums[2]) * np.exp(down_s)
        sums[5] *= np.exp(down_s)
    else:
        shift = -down_s if kind == CROSS_ENTROPY else down_t - down_s
        sums[4] = (sums[4] + shift * sums[3]) * np.exp(down_t)
    sums[2] *= np.exp(down_s)
    sums[3] *= np.exp(down_t)


@jit()
def join_sums(total: Floats, more: Floats, kind: int) -> None:
    """Add the sums of other items to ``total``, both [6, b] as :func:`pair_sums` makes them; ``more`` is used up."""
    for b in range(total.shape[1]):
        if more[0, b] == -np.inf:
            continue
        if total[0, b] == -np.inf:
            total[:, b] = more[:, b]
            continue
        # Not max(): a NaN stays one.
        top_s = total[0, b] if more[0, b] <= total[0, b] else more[0, b]
        top_t = total[1, b] if more[1, b] <= total[1, b] else more[1, b]
        _move_tops(total[:, b], top_s, top_t, kind)
        _move_tops(more[:, b], top_s, top_t, kind)
        total[0, b], total[1, b] = top_s, top_t
        for at in range(2, 6):
            total[at, b] += more[at, b]


@jit(fastmath=set(_SUM))
def _sum_row(s: Floats, t: Floats, top_s: Any, top_t: Any, kind: int, sums: Floats) -> None:
    zero = s.dtype.type(0)
    mass_s, mass_t, mixed = zero, zero, zero
    reverse = s.dtype.type(kind == REVERSE_KL)
    teacher_part = s.dtype.type(kind != CROSS_ENTROPY)
    forward = s.dtype.type(1) - reverse
    for j in range(len(s)):
        x, y = s[j] - top_s, t[j] - top_t
        p, q = exp(x), exp(y)
        mass_s += p
        mass_t += q
        product = (reverse * p - forward * q) * (x - teacher_part * y)
        mixed += zero if x == -np.inf else product
    sums[2] += mass_s
    sums[3] += mass_t
    sums[4] += mixed


@jit(fastmath=set(_SUM))
def _sum_differences(s: Floats, t: Floats, top: Any) -> float:
    total = 0.0
    for j in range(len(s)):
        product = np.float64(exp(s[j] - top)) * (np.float64(s[j]) - np.float64(t[j]))
        total += 0.0 if s[j] == -np.inf else product
    return total


@jit(fastmath=set(_SUM))
def pair_gaps(
    student: Floats, teacher: Floats, bounds: Ints, indices: Ints, first: int, stats: Floats, gaps: Floats
) -> None:
    """Add ``sum p log(p / m)`` and ``sum q log(q / m)`` of a tile to ``gaps`` Float64[2, b], m = (p + q) / 2."""
    empty = student[0, :0]
    for b in range(len(student)):
        s, t, excluded = student[b], teacher[b], indices[bounds[b, 0] : bounds[b, 1]]
        prepare(s, empty, excluded, first)
        prepare(t, empty, excluded, first)
        zero, log2 = s.dtype.type(0), s.dtype.type(np.log(2.0))
        to_student, to_teacher = zero, zero
        top_s, mass_s, top_t, mass_t = stats[0, b], stats[1, b], stats[2, b], stats[3, b]
        for j in range(len(s)):
            x, y = (s[j] - top_s) - mass_s, (t[j] - top_t) - mass_t
            apart = abs(x - y)
            small = log1p_of_ratio(exp(-apart))
            p_gap = exp(x) * (log2 - small - max(y - x, zero))
            q_gap = exp(y) * (log2 - small - max(x - y, zero))
            to_student += zero if x == -np.inf else p_gap
            to_teacher += zero if x == -np.inf else q_gap
        gaps[0, b] += to_student
        gaps[1, b] += to_teacher


@jit()
def pair_weights(
    student: Floats, teacher: Floats, bounds: Ints, indices: Ints, first: int, kind: int, stats: Floats, weights: Floats
) -> None:
    """Turn the student's tile into ``weight_u dloss_u/ds_ui``."""
    empty = student[0, :0]
    for b in range(len(student)):
        s, t, excluded = student[b], teacher[b], indices[bounds[b, 0] : bounds[b, 1]]
        prepare(s, empty, excluded, first)
        prepare(t, empty, excluded, first)
        if kind == REVERSE_KL:
            _reverse_weights(s, t, stats[:, b], weights[b])
        elif kind == JENSEN_SHANNON:
            _shannon_weights(s, t, stats[:, b], weights[b])
        else:
            _forward_weights(s, t, stats[:, b], weights[b])


@jit(fastmath={"contract"})
def _forward_weights(s: Floats, t: Floats, stats: Floats, weight: Any) -> None:
    top_s, mass_s, top_t, mass_t = stats[0], stats[1], stats[2], stats[3]
    for j in range(len(s)):
        s[j] = weight * (exp((s[j] - top_s) - mass_s) - exp((t[j] - top_t) - mass_t))


@jit(fastmath={"contract"})
def _reverse_weights(s: Floats, t: Floats, stats: Floats, weight: Any) -> None:
    top_s, mass_s = stats[0], stats[1]
    centre = np.float64(stats[4]) + np.float64(stats[5])
    zero = s.dtype.type(0)
    for j in range(len(s)):
        x = (s[j] - top_s) - mass_s
        apart = s.dtype.type((np.float64(s[j]) - np.float64(t[j])) - centre)
        value = weight * exp(x) * apart
        s[j] = zero if x == -np.inf else value


@jit(fastmath={"contract"})
def _shannon_weights(s: Floats, t: Floats, stats: Floats, weight: Any) -> None:
    top_s, mass_s, top_t, mass_t, centre = stats[0], stats[1], stats[2], stats[3], stats[4]
    zero, half, log2 = s.dtype.type(0), s.dtype.type(0.5), s.dtype.type(np.log(2.0))
    for j in range(len(s)):
        x, y = (s[j] - top_s) - mass_s, (t[j] - top_t) - mass_t
        gap = log2 - log1p_of_ratio(exp(-abs(x - y))) - max(y - x, zero)
        value = half * weight * exp(x) * (gap - centre)
        s[j] = zero if x == -np.inf else value
