"""Pairwise losses of one positive against n negatives: BPR ``-log sigma(p - n)`` and margin ``max(0, m - (p - n))``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pairwise(positive: Tensor, negative: Tensor, weights: Tensor | None, *, loss: str, margin: float) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.pairwise`."""
    dtype = torch.promote_types(torch.promote_types(positive.dtype, negative.dtype), torch.float32)
    present = (negative != -torch.inf) & (positive != -torch.inf).unsqueeze(1)
    lead = (positive.to(dtype).unsqueeze(1) - negative.to(dtype)).masked_fill(~present, 0)
    terms = -functional.logsigmoid(lead) if loss == "bpr" else functional.relu(margin - lead)
    if weights is not None:
        terms = weights.to(dtype) * terms
    return terms.masked_fill(~present, 0).sum(1) / present.sum(1).clamp(min=1)
