"""A linear map of rows: the truth in plain torch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return ``y_n = W x_n + b``; ``x`` [n, S], ``weight`` [T, S], ``bias`` [T] or None -> [n, T]."""
    return functional.linear(x, weight, bias)
