"""Binary cross entropy with a teacher's scores, from vectors on the CPU: ``weighted_bce_from_embeddings``'s kernel."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.numba._listwise import Made, listwise_backward
from fastkd.kernels.numba.weighted_bce_from_embeddings import bce_of_list

soft_bce_from_embeddings_backward = listwise_backward


def soft_bce_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, weights: Tensor | None, temperature: float,
    shift: float, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, C], keys [B, C], unit user gradients [B, D]), empty where not needed."""
    given = (1.0 / temperature, shift)
    return bce_of_list(
        users, items, ids, teacher, weights, given, validate=validate, need_users=need_users, need_items=need_items
    )
