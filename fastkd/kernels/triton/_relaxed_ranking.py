"""The relaxed Plackett-Luce loss of one row of scores in memory, and its gradient with respect to them.

Shapes: K ranked scores, L unranked ones. A_k = sum_{j>=k} e^{r_j} + sum_l e^{u_l} is carried as (largest score, sum of
e^{s - largest}), with a running maximum, so nothing overflows, and a list far below another's maximum does not vanish.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Stands for a score that is not there: below every score, and finite, so that no difference is inf - inf.
LOWEST = tl.constexpr(-1e38)


@triton.jit
def add_masses(top, mass, other_top, other_mass):
    """Return the sum of two masses, each (largest score, sum of e^{s - largest})."""
    larger = tl.maximum(top, other_top)
    return larger, mass * tl.exp(top - larger) + other_mass * tl.exp(other_top - larger)


@triton.jit
def mass_of(s, TYPE: tl.constexpr):
    """Return e^s as (largest score, mass): no mass for -inf, a mass of NaN, not a score of NaN, for NaN."""
    own = tl.where(s != float("-inf"), tl.where(s == s, 1.0, s), 0.0).to(TYPE)
    return tl.where((s != float("-inf")) & (s == s), s, LOWEST), own


@triton.jit
def _prepend(top, mass, below_top, below_mass, own_top, own_mass, own_below_top, own_below_mass):
    """Scan step, from the last rank to the first: a run of scores with its mass, and its mass without its first score.

    The second half is what A_{k+1} is read from: A_k less its own score would cancel.
    """
    all_top, all_mass = add_masses(own_top, own_mass, top, mass)
    rest_top, rest_mass = add_masses(own_below_top, own_below_mass, top, mass)
    return all_top, all_mass, rest_top, rest_mass


@triton.jit
def _follow(decay, inherited, kept, weight, then_decay, then_inherited, then_kept, then_weight):
    """Scan step: what a rank inherits from those before it, I_k = (A_k / A_{k-1}) (I_{k-1} + w_{k-1})."""
    step = then_decay * kept
    return step * decay, step * (inherited + weight) + then_inherited, then_kept, then_weight


@triton.jit
def unranked_mass(unranked, L, STEP: tl.constexpr, TYPE: tl.constexpr):
    """Return sum_l e^{u_l} as (largest score, mass)."""
    top = tl.full([STEP], LOWEST, TYPE)
    mass = tl.zeros([STEP], TYPE)
    for start in range(0, L, STEP):
        j = start + tl.arange(0, STEP)
        s = tl.load(unranked + j, j < L, other=float("-inf")).to(TYPE)
        own_top, own = mass_of(s, TYPE)
        top, mass = add_masses(top, mass, own_top, own)
    largest = tl.max(top, 0)
    return largest, tl.sum(mass * tl.exp(top - largest), 0)


@triton.jit
def relaxed_ranking_row(
    ranked, unranked, weights, unit_ranked, unit_unranked, K, L,
    GRADIENT: tl.constexpr, RANKS: tl.constexpr, STEP: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Return the loss of a row; store its gradient, which may replace the scores. RANKS: a power of two, K at least."""
    other_top, other_mass = unranked_mass(unranked, L, STEP, TYPE)
    k = tl.arange(0, RANKS)
    s = tl.load(ranked + k, k < K, other=float("-inf")).to(TYPE)
    there = s != float("-inf")
    s = tl.where(there, s, LOWEST)
    weight = tl.where(there, 1.0, 0.0).to(TYPE)
    if weights is not None:
        weight = tl.where(there, tl.load(weights + k, k < K, other=0.0).to(TYPE), 0.0)

    own = tl.where(there, 1.0, 0.0).to(TYPE)
    nothing_top, nothing = tl.full([RANKS], LOWEST, TYPE), tl.zeros([RANKS], TYPE)
    top, mass, below_top, below = tl.associative_scan((s, own, nothing_top, nothing), 0, _prepend, reverse=True)
    top, mass = add_masses(top, mass, other_top, other_mass)
    below_top, below = add_masses(below_top, below, other_top, other_mass)
    mass = tl.where(mass > 0, mass, tl.where(mass == 0, 1.0, mass))  # nothing at all: any positive number will do
    loss = tl.sum(tl.where(there, weight * ((top - s) + tl.log(mass)), 0.0), 0)

    if GRADIENT:
        kept = tl.where(there, tl.exp(below_top - top) * (below / mass), 1.0)  # A_{k+1} / A_k
        # I_k = sum_{j<k} w_j A_k / A_j: all ratios are at most 1
        one, none = tl.full([RANKS], 1.0, TYPE), tl.zeros([RANKS], TYPE)
        _, inherited, _, _ = tl.associative_scan((one, none, kept, weight), 0, _follow)
        share = tl.exp(s - top) / mass
        tl.debug_barrier()  # the gradient may replace the scores
        tl.store(unit_ranked + k, tl.where(there, share * inherited - weight * kept, 0.0), k < K)
        pressure = tl.sum(tl.where(k == RANKS - 1, kept * (inherited + weight), 0.0), 0)
        scale = pressure / tl.where(other_mass == 0, 1.0, other_mass)
        for start in range(0, L, STEP):
            j = start + tl.arange(0, STEP)
            u = tl.load(unranked + j, j < L, other=float("-inf")).to(TYPE)
            present = u != float("-inf")
            unit = tl.exp(tl.where(present, u, LOWEST) - other_top) * scale
            tl.debug_barrier()
            tl.store(unit_unranked + j, tl.where(present, unit, 0.0), j < L)
    return loss
