"""Relaxed Plackett-Luce loss: ``sum_k log(sum_{j>=k} e^{s_j} + sum_l e^{z_l}) - s_k``."""

from __future__ import annotations

import torch
from torch import Tensor


def relaxed_ranking(ranked: Tensor, unranked: Tensor, weights: Tensor | None) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.relaxed_ranking`."""
    dtype = torch.promote_types(torch.promote_types(ranked.dtype, unranked.dtype), torch.float32)
    scores = torch.cat([ranked.to(dtype), unranked.to(dtype)], dim=1)
    present = ranked != -torch.inf
    # A padded score counts for nothing in a sum of exponentials; finite, so that no gradient is inf - inf.
    scores = scores.masked_fill(scores == -torch.inf, torch.finfo(dtype).min / 2)
    masses = scores.flip(1).logcumsumexp(1).flip(1)[:, : ranked.shape[1]]
    terms = (masses - scores[:, : ranked.shape[1]]).masked_fill(~present, 0)
    return (terms if weights is None else weights.to(dtype).masked_fill(~present, 0) * terms).sum(1)
