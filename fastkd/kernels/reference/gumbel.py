"""Gumbel noise whose draws are counters, written from the definition.

Columns lie over Philox blocks as those of :mod:`fastkd.kernels.reference.dropout` do: of E columns column j of row r
reads word j // q of the block of counter (j mod q, r low, r high, 0), q = ceil(E / 4). U = (word + 1/2) / 2^32 in
float64, G = -log(-log U) by the logarithm of ``_random``, rounded to float32 once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._random import log, philox4x32, user_words


def gumbel(rows: Tensor, columns: int, key: int) -> Tensor:
    """Return Float32[n, E]; see :func:`fastkd.ops.gumbel`."""
    blocks = torch.arange(-(-columns // 4), device=rows.device)[None, :]
    low, high = (word[:, None] for word in user_words(rows))
    words = torch.cat(philox4x32(blocks, low, high, 0, key), dim=1)[:, :columns]
    return (-log(-log((words.double() + 0.5) * 2.0**-32))).float()
