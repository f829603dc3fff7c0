"""Relaxed Plackett-Luce loss of inner products: ``relaxed_ranking(<p, q_ranked>, <p, q_unranked>)``."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference.gather_dot import gather_dot
from fastkd.kernels.reference.relaxed_ranking import relaxed_ranking


def relaxed_ranking_from_embeddings(
    users: Tensor, items: Tensor, ranked_ids: Tensor, unranked_ids: Tensor, weights: Tensor | None
) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.relaxed_ranking_from_embeddings`."""
    # One gather for both lists: half precision then rounds its gradient once.
    scores = gather_dot(users, items, torch.cat([ranked_ids.long(), unranked_ids.long()], 1))
    length = ranked_ids.shape[1]
    return relaxed_ranking(scores[:, :length], scores[:, length:], weights)
