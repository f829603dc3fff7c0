"""ListNet's cross entropy of one row of scores, and its gradient with respect to the student's.

Shapes: C scores. -inf on either side takes the place out of both softmaxes. Memory: Float[4, C] of their dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._exp import LOWEST, largest, total
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._logistic import exp_of

Floats = NDArray[Any]


@jit()
def listnet_row(
    scores: Floats, teacher: Floats, scale: float, gradient: bool, unit: Floats, memory: Floats
) -> float:  # fmt: skip
    """Return the loss of a row; write its gradient, which may replace the scores. ``scale``: 1 / temperature."""
    width, real = len(scores), memory.dtype.type
    zero, factor = real(0), real(scale)
    p, q, s, t = memory[0], memory[1], memory[2], memory[3]
    for c in range(width):
        absent = (scores[c] == -np.inf) | (teacher[c] == -np.inf)
        s[c] = real(-np.inf) if absent else scores[c]
        t[c] = real(-np.inf) if absent else teacher[c]
    # The largest goes before the temperature, which would round numbers that may be a thousand times larger.
    first, second = largest(s), largest(t)
    top, high = real(first if first > LOWEST else 0.0), real(second if second > LOWEST else 0.0)
    for c in range(width):
        p[c] = exp_of((s[c] - top) * factor)
        q[c] = exp_of((t[c] - high) * factor)
    mass, other = total(p, width), total(q, width)
    if mass == 0.0 or other == 0.0:
        if gradient:
            unit[:] = 0
        return 0.0
    log_mass, part, share = real(np.log(mass)), real(1.0 / mass), real(1.0 / other)
    for c in range(width):
        gap = (top - s[c]) * factor + log_mass
        q[c] = q[c] * share
        t[c] = q[c] * gap if s[c] != -np.inf else zero
        p[c] = (p[c] * part - q[c]) * factor
    if gradient:
        for c in range(width):
            unit[c] = p[c]
    return total(t, width)
