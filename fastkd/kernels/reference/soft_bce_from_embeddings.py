"""The loss of inner products: ``soft_bce(<p, q_ids>, ...)``."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference.gather_dot import gather_dot
from fastkd.kernels.reference.soft_bce import soft_bce


def soft_bce_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, weights: Tensor | None, temperature: float, shift: float
) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.soft_bce_from_embeddings`."""
    return soft_bce(gather_dot(users, items, ids), teacher, weights, temperature, shift)
