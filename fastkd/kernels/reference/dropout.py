"""Dropout whose draws are counters, written from the definition.

Column j of row r (an id, of any 64 bits) of a matrix D wide reads word j // q of the Philox block of counter
(j mod q, r low, r high, 0), q = ceil(D / 4): four stretches of columns share a block. It is kept where its word is
below ``below`` = round((1 - rate) 2^32).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._random import philox4x32, user_words


def dropout(x: Tensor, rows: Tensor, below: int, scale: float, key: int) -> Tensor:
    """Return ``x * scale`` where kept, else 0; see :func:`fastkd.ops.dropout`."""
    width = x.shape[1]
    blocks = torch.arange(-(-width // 4), device=x.device)[None, :]
    low, high = (word[:, None] for word in user_words(rows))
    words = torch.cat(philox4x32(blocks, low, high, 0, key), dim=1)[:, :width]
    return torch.where(words < below, x * scale, torch.zeros((), dtype=x.dtype, device=x.device))
