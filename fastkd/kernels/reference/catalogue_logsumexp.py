"""Log-sum-exp over a whole catalogue: ``log sum_i exp z_bi``."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference._catalogue import catalogue_scores


def catalogue_logsumexp(
    users: Tensor, items: Tensor, bounds: Tensor | None, indices: Tensor | None, bias: Tensor | None, *, scale: float
) -> Tensor:
    """Return Float[B]; makes [B, N]. See :func:`fastkd.ops.catalogue_logsumexp`."""
    return catalogue_scores(users, items, bounds, indices, bias, scale).logsumexp(1)
