"""Cross entropy of the softmax over a whole catalogue against sparse targets."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._catalogue import catalogue_scores, without


def catalogue_softmax(
    users: Tensor,
    items: Tensor,
    ids: Tensor,
    coefficients: Tensor,
    uniform: Tensor | None,
    bounds: Tensor | None,
    indices: Tensor | None,
    bias: Tensor | None,
    *,
    scale: float,
) -> Tensor:
    """Return ``sum_i q_bi (lse_b - z_bi)``, Float[B]; makes [B, N]. See :func:`fastkd.ops.catalogue_softmax`.

    ``q_bi`` is ``uniform_b`` plus the coefficients listed for item i.
    """
    scores = catalogue_scores(users, items, None, None, bias, scale)
    total = without(scores, bounds, indices).logsumexp(1, keepdim=True)
    listed = ids >= 0
    dense = torch.zeros_like(scores).scatter_add(
        1, ids.long().clamp(min=0), torch.where(listed, coefficients, 0).to(scores.dtype)
    )
    if uniform is not None:
        dense = dense + uniform.to(scores.dtype).unsqueeze(1)
    # An item without probability counts for nothing, even where a bias of -inf makes its score one.
    return torch.where(dense == 0, 0, dense * (total - scores)).sum(1)
