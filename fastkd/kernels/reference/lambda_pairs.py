"""Weighted logistic loss of all pairs of a list, with weights from the order the student has now (LambdaRank)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def lambda_pairs(
    scores: Tensor, gains: Tensor | None, pair_weights: Tensor | None, *, weights: str, sigma: float
) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.lambda_pairs`. It makes a tensor [B, K, K]."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    present = scores != -torch.inf
    scores = scores.masked_fill(~present, 0)
    width = scores.shape[1]
    above = torch.ones((width, width), dtype=torch.bool, device=scores.device).triu(1)
    pairs = present.unsqueeze(2) & present.unsqueeze(1) & above
    terms = -functional.logsigmoid(sigma * (scores.unsqueeze(2) - scores.unsqueeze(1)))
    if weights == "given":
        assert pair_weights is not None
        terms = pair_weights.to(terms.dtype) * terms
    elif weights != "uniform":
        terms = _deltas(scores.detach(), present, gains, weights) * terms
    return terms.masked_fill(~pairs, 0).sum((1, 2))


def _deltas(scores: Tensor, present: Tensor, gains: Tensor | None, weights: str) -> Tensor:
    """Return |G_i - G_j| times the discount at stake, Float[B, K, K]."""
    place = torch.arange(scores.shape[1], device=scores.device, dtype=scores.dtype)
    gains = 1 / (2 + place).log2() if gains is None else gains.to(scores.dtype)
    gains = gains.expand(scores.shape).masked_fill(~present, 0)
    ideal = (gains / (1 + present.cumsum(1).clamp(min=1).to(scores.dtype)).log2()).sum(1)
    gains = gains / ideal.where(ideal > 0, torch.inf).unsqueeze(1)
    ahead = (scores.unsqueeze(1) > scores.unsqueeze(2)) | (
        (scores.unsqueeze(1) == scores.unsqueeze(2)) & (place.unsqueeze(0) < place.unsqueeze(1))
    )
    rank = 1 + (ahead & present.unsqueeze(1)).sum(2).to(scores.dtype)
    if weights == "lambdarank":
        discount = 1 / (1 + rank).log2()
        stake = discount.unsqueeze(2) - discount.unsqueeze(1)
    else:
        apart = (rank.unsqueeze(2) - rank.unsqueeze(1)).abs().clamp(min=1)
        stake = 1 / (1 + apart).log2() - 1 / (2 + apart).log2()
    return (gains.unsqueeze(2) - gains.unsqueeze(1)).abs() * stake.abs()
