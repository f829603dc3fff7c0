"""Gumbel noise whose draws are counters, written from the definition.

U = (word + 1/2) / 2^32 in float64, G = -log(-log U) by the logarithm of ``_random``, rounded to float32 once.
"""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference._random import log, row_words


def gumbel(rows: Tensor, columns: int, key: int) -> Tensor:
    """Return Float32[n, E]; see :func:`fastkd.ops.gumbel`."""
    return (-log(-log((row_words(rows, columns, key).double() + 0.5) * 2.0**-32))).float()
