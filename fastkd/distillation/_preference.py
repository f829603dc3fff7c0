"""What PCKD asks of a projector, row by row, and how far it is true: -inf marks a place without an item.

``before`` a Float[n, C] and ``behind`` b Float[n, C]: scores of a user's items before and behind the projectors.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fastkd import ops


def list_consistency(before: Tensor, behind: Tensor, temperature: float) -> Tensor:
    """Return ``-sum_c softmax(a / tau)_c log softmax(b / tau)_c``, Float[n]; a row without items has 0."""
    return ops.listnet(behind, before.detach(), temperature=temperature)


def pair_consistency(before: Tensor, behind: Tensor) -> Tensor:
    """Return ``-log sigma((b_0 - b_1)(a_0 - a_1))``, Float[n], of the first two columns; 0 where one is missing."""
    a, b = before.detach(), behind
    there = torch.isfinite(a[:, :2]).all(dim=1)
    gaps = (torch.where(there[:, None], x[:, :2], 0.0) for x in (a, b))
    first, second = ((x[:, 0] - x[:, 1]) for x in gaps)
    return torch.where(there, -functional.logsigmoid(first * second), 0.0)


def order_kept(before: Tensor, behind: Tensor, weights: Tensor) -> Tensor:
    """Return the share of a row's pairs (c, d) with a_c > a_d that have b_c > b_d too, Float[]; 1 where there are none.

    ``weights`` Float[n]: rows of weight 0 do not count.
    """
    a, b = before.detach(), behind.detach()
    there = torch.isfinite(a) & (weights > 0)[:, None]
    compared = (a[:, :, None] > a[:, None, :]) & there[:, :, None] & there[:, None, :]
    kept = compared & (b[:, :, None] > b[:, None, :])
    total = compared.sum()
    return torch.where(total > 0, kept.sum() / total.clamp(min=1), 1.0)
