"""The loss of inner products: ``pairwise(<p, q_positive>, <p, q_negative>)``."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference.gather_dot import gather_dot
from fastkd.kernels.reference.pairwise import pairwise


def pairwise_from_embeddings(
    users: Tensor, items: Tensor, positive_ids: Tensor, negative_ids: Tensor, weights: Tensor | None,
    *, loss: str, margin: float,
) -> Tensor:  # fmt: skip
    """Return the loss Float[B] of each row; ids Int[B, 1] and Int[B, n].

    See :func:`fastkd.ops.pairwise_from_embeddings`.
    """
    # One gather for both lists: half precision then rounds its gradient once.
    scores = gather_dot(users, items, torch.cat([positive_ids.long(), negative_ids.long()], 1))
    return pairwise(scores[:, 0], scores[:, 1:], weights, loss=loss, margin=margin)
