"""Dropout whose draws are counters, written from the definition: kept where its word is below (1 - rate) 2^32."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._random import row_words


def dropout(x: Tensor, rows: Tensor, below: int, scale: float, key: int) -> Tensor:
    """Return ``x * scale`` where kept, else 0; see :func:`fastkd.ops.dropout`."""
    kept = row_words(rows, x.shape[1], key) < below
    return torch.where(kept, x * scale, torch.zeros((), dtype=x.dtype, device=x.device))
