"""ListNet's cross entropy of one row of scores, and its gradient with respect to the student's.

Shapes: C scores. -inf on either side takes the place out of both softmaxes. Memory: Float64[3, C].
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.numba._exp import exps, largest, total
from fastkd.kernels.numba._jit import jit

Floats = NDArray[Any]


@jit()
def listnet_row(
    scores: Floats, teacher: Floats, scale: float, gradient: bool, unit: Floats, memory: Floats
) -> float:  # fmt: skip
    """Return the loss of a row; write its gradient, which may replace the scores. ``scale``: 1 / temperature."""
    width = len(scores)
    p, q, s = memory[0], memory[1], memory[2]
    for c in range(width):
        absent = (scores[c] == -np.inf) | (teacher[c] == -np.inf)
        s[c] = -np.inf if absent else np.float64(scores[c]) * scale
        q[c] = -np.inf if absent else np.float64(teacher[c]) * scale
    top = largest(s[:width])
    exps(s[:width], top, p)
    exps(q[:width], largest(q[:width]), q)
    mass, other = total(p, width), total(q, width)
    if mass == 0.0 or other == 0.0:
        if gradient:
            unit[:] = 0
        return 0.0
    log_mass, loss = np.log(mass), 0.0
    for c in range(width):
        share = q[c] / other
        if s[c] != -np.inf:
            loss += share * ((top - s[c]) + log_mass)
        if gradient:
            unit[c] = (p[c] / mass - share) * scale
    return loss
