"""What launchers share: memory for results and whether a device runs it."""

from __future__ import annotations

import torch
from torch import Tensor

SECOND_AXIS = 65_535
"""Programs that the second axis of a grid may have; the first has 2^31 - 1."""


def new(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return an uninitialised tensor; tests replace this by one filled with NaN or the largest integer."""
    return torch.empty(shape, dtype=dtype, device=device)
