"""Binary cross entropy with a teacher's probabilities: targets ``q = sigma((t + shift) / T)``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_bce(scores: Tensor, teacher: Tensor, weights: Tensor | None, temperature: float, shift: float) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.soft_bce`."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    absent = scores == -torch.inf
    logits, given = scores.to(dtype).masked_fill(absent, 0), (teacher.to(dtype) + shift) / temperature
    yes, no = torch.sigmoid(given), torch.sigmoid(-given)
    terms = -yes * functional.logsigmoid(logits) - no * functional.logsigmoid(-logits)
    if weights is not None:
        terms = weights.to(dtype) * terms
    return terms.masked_fill(absent, 0).sum(1)
