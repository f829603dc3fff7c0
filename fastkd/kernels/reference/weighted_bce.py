"""Binary cross entropy with soft targets: ``sum_c w_c (-q_c log sigma(s_c) - (1 - q_c) log sigma(-s_c))``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def weighted_bce(scores: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.weighted_bce`."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    absent = scores == -torch.inf
    logits, q = scores.to(dtype).masked_fill(absent, 0), targets.to(dtype)
    terms = -q * functional.logsigmoid(logits) - (1 - q) * functional.logsigmoid(-logits)
    if weights is not None:
        terms = weights.to(dtype) * terms
    return terms.masked_fill(absent, 0).sum(1)
