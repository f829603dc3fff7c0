"""Several teachers' scores of one list as one distribution, each teacher weighted by confidence and consistency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 1e-12
"""Least confidence and consistency: a teacher's weight may become tiny, not 0 / 0."""


class Mixture(NamedTuple):
    """What X teachers say about lists of C items of B users.

    ``log_shares``: log of ``q = sum_m w_m p^m``, Float[B, C], -inf where there is no item. ``weights``: w, Float[B, X].
    ``entropy``: ``sum_m w_m H(p^m)``, Float[B], so that ``sum_m w_m KL(p^m || r) = CE(q, r) - entropy``.
    """

    log_shares: Tensor
    entropy: Tensor
    weights: Tensor


def mixture(
    scores: Tensor,
    positives: int,
    *,
    temperatures: Sequence[float] = (1.0,),
    standardise: bool = False,
    confidence: float = 1.0,
    consistency: float = 1.0,
    priors: Sequence[float] = (1.0,),
) -> Mixture:
    """Mix teachers: ``w_m = v_m c_m^a k_m^g / sum``, with ``p^m = softmax(t^m / T_m)`` over a user's list.

    ``c_m``, the confidence: what p^m gives to the user's positives, the first ``positives`` places. ``k_m``, the
    consistency: ``1 - JS(p^m, sum_m v_m p^m / sum v) / log 2``. Both are 1e-12 at least. ``confidence``,
    ``consistency``: the exponents a and g. ``priors``: v, one for each teacher, or one for all; with equal ones and
    exponents of 0 the weights are the plain average.

    ``scores``: t, Float[X, B, C]; -inf is padding, the same places for all teachers. ``temperatures``: one for each
    teacher, or one for all. ``standardise``: bring each teacher's scores of a list to mean 0 and deviation 1 first.
    Computed and returned in float64.
    """
    scores = scores.double()
    absent = scores == -torch.inf
    values = scores.masked_fill(absent, 0)
    if standardise:
        values = _standardised(values, ~absent)
    divisors = torch.tensor(list(temperatures), dtype=torch.float64, device=scores.device).reshape(-1, 1, 1)
    # Finite where absent: a list of nothing gives equal shares there, which are taken out below.
    lowest = torch.finfo(torch.float64).min / 2
    log_p = (values / divisors).masked_fill(absent, lowest).log_softmax(2).masked_fill(absent, -torch.inf)
    p = log_p.exp()
    sure = p[:, :, :positives].sum(2).clamp(min=FLOOR).log()
    worth = torch.tensor(list(priors), dtype=torch.float64, device=scores.device).expand(len(scores))
    worth = (worth / worth.sum()).reshape(-1, 1)
    mean = (worth.unsqueeze(2) * p).sum(0, keepdim=True)
    middle = (p + mean) / 2
    divergence = (_relative(p, middle) + _relative(mean, middle)) / 2
    agreed = (1 - divergence / math.log(2)).clamp(min=FLOOR).log()
    weights = (worth.log() + confidence * sure + consistency * agreed).softmax(0)
    shares = (weights.unsqueeze(2) * p).sum(0)
    entropy = -(weights * torch.where(p > 0, p * log_p, 0).sum(2)).sum(0)
    return Mixture(shares.log(), entropy, weights.T.contiguous())


def _standardised(values: Tensor, known: Tensor) -> Tensor:
    """Return each row at mean 0 and deviation 1 over its known places; a row of equal values becomes 0."""
    count = known.sum(2, keepdim=True).clamp(min=1)
    centred = (values - values.sum(2, keepdim=True) / count) * known
    spread = (centred.square().sum(2, keepdim=True) / count).sqrt()
    # Equal scores that differ in a rounding say nothing and are not blown up to deviation 1.
    largest = values.abs().amax(2, keepdim=True).clamp(min=FLOOR) if values.shape[2] else spread
    return torch.where(spread > 1e-6 * largest, centred / spread.clamp(min=1e-300), 0.0)


def _relative(p: Tensor, q: Tensor) -> Tensor:
    """Return ``KL(p || q)`` of each row; q > 0 wherever p > 0."""
    return torch.where(p > 0, p * (p.clamp(min=1e-300) / q.clamp(min=1e-300)).log(), 0).sum(2)
