"""The loss of inner products: ``weighted_bce(<p, q_ids>, ...)``."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference.gather_dot import gather_dot
from fastkd.kernels.reference.weighted_bce import weighted_bce


def weighted_bce_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, targets: Tensor, weights: Tensor | None
) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.weighted_bce_from_embeddings`."""
    return weighted_bce(gather_dot(users, items, ids), targets, weights)
