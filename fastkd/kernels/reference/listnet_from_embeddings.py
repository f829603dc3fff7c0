"""ListNet's cross entropy of inner products: ``listnet(<p, q_ids>, t)``."""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference.gather_dot import gather_dot
from fastkd.kernels.reference.listnet import listnet


def listnet_from_embeddings(users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.listnet_from_embeddings`."""
    return listnet(gather_dot(users, items, ids), teacher, temperature)
