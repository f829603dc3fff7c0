"""Binary cross entropy with a teacher's scores, from vectors on the GPU: ``weighted_bce_from_embeddings``'s kernel."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.triton._listwise import Made, listwise_backward
from fastkd.kernels.triton.gather_dot import refuse_out_of_range
from fastkd.kernels.triton.weighted_bce_from_embeddings import bce_of_list

soft_bce_from_embeddings_backward = listwise_backward


def soft_bce_from_embeddings(
    users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, weights: Tensor | None, temperature: float,
    shift: float, *, validate: bool, need_users: bool, need_items: bool,
) -> Made:  # fmt: skip
    """Return (loss [B], coefficients [B, C], keys [B, C], unit user gradients [B, D]); see ``_listwise.results``."""
    if validate:
        refuse_out_of_range("ids", ids, len(items))
    given = (1.0 / temperature, shift)
    return bce_of_list(users, items, ids, teacher, weights, given, need_users=need_users, need_items=need_items)
