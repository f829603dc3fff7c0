"""The loss of inner products: ``lambda_pairs(<p, q_ids>, ...)``."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference.gather_dot import gather_dot
from fastkd.kernels.reference.lambda_pairs import lambda_pairs


def lambda_pairs_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, gains: Tensor | None, pair_weights: Tensor | None,
    *, weights: str, sigma: float,
) -> Tensor:  # fmt: skip
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.lambda_pairs_from_embeddings`."""
    return lambda_pairs(gather_dot(users, items, ids), gains, pair_weights, weights=weights, sigma=sigma)
