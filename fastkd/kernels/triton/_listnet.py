"""ListNet's cross entropy of rows of scores in memory, and its gradient with respect to the student's.

Shapes: ROWS rows of C scores, COLS at a time. -inf on either side takes the place out of both softmaxes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._relaxed_ranking import LOWEST, add_masses, mass_of
from fastkd.kernels.triton._rows import real


@triton.jit
def _pair(scores, teacher, b, c, B, C, factor, TYPE: tl.constexpr):
    """Return (student logits, teacher logits, whether both are there), Float[ROWS, COLS]."""
    live = (b < B)[:, None] & (c < C)[None, :]
    at = b[:, None] * C + c[None, :]
    s = tl.load(scores + at, live, other=float("-inf")).to(TYPE)
    t = tl.load(teacher + at, live, other=float("-inf")).to(TYPE)
    there = (s != float("-inf")) & (t != float("-inf"))
    return tl.where(there, s * factor, float("-inf")), tl.where(there, t * factor, float("-inf")), there


@triton.jit
def listnet_rows(
    scores, teacher, unit, b, B, C, scale, scale_rest,
    GRADIENT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """Return the loss of rows b, Float[ROWS]; store the gradient, which may replace the scores. ``scale``: 1 / T."""
    factor = real(scale, scale_rest, TYPE)[:, None]
    top, mass = tl.full([ROWS, COLS], LOWEST, TYPE), tl.zeros([ROWS, COLS], TYPE)
    other_top, other_mass = tl.full([ROWS, COLS], LOWEST, TYPE), tl.zeros([ROWS, COLS], TYPE)
    for start in range(0, C, COLS):
        s, t, there = _pair(scores, teacher, b, start + tl.arange(0, COLS), B, C, factor, TYPE)
        own_top, own = mass_of(s, TYPE)
        top, mass = add_masses(top, mass, own_top, own)
        own_top, own = mass_of(t, TYPE)
        other_top, other_mass = add_masses(other_top, other_mass, own_top, own)
    largest, other_largest = tl.max(top, 1), tl.max(other_top, 1)
    mass = tl.sum(mass * tl.exp(top - largest[:, None]), 1)
    other_mass = tl.sum(other_mass * tl.exp(other_top - other_largest[:, None]), 1)
    mass = tl.where(mass == 0, 1.0, mass)
    other_mass = tl.where(other_mass == 0, 1.0, other_mass)

    loss = tl.zeros([ROWS], TYPE)
    for start in range(0, C, COLS):
        c = start + tl.arange(0, COLS)
        s, t, there = _pair(scores, teacher, b, c, B, C, factor, TYPE)
        q = tl.exp(t - other_largest[:, None]) / other_mass[:, None]
        p = tl.exp(s - largest[:, None]) / mass[:, None]
        loss += tl.sum(
            tl.where(there, q * ((largest[:, None] - tl.where(there, s, 0.0)) + tl.log(mass)[:, None]), 0.0), 1
        )
        if GRADIENT:
            tl.debug_barrier()  # the gradient may replace the scores
            live = (b < B)[:, None] & (c < C)[None, :]
            tl.store(unit + b[:, None] * C + c[None, :], tl.where(there, (p - q) * factor, 0.0), live)
    return loss
