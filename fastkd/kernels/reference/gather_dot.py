"""Scores of listed items: ``s_bc = <p_b, q_{ids_bc}>``."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def gather_dot(users: Tensor, items: Tensor, ids: Tensor) -> Tensor:
    """Return scores Float[B, C]; makes [B, C, D]. See :func:`fastkd.ops.gather_dot`."""
    dtype = torch.promote_types(torch.promote_types(users.dtype, items.dtype), torch.float32)
    rows = functional.embedding(ids.clamp(min=0), items.to(dtype))
    # Not einsum: autocast would take that down to half precision.
    scores = (users.to(dtype).unsqueeze(1) * rows).sum(2)
    return scores.masked_fill(ids == -1, -torch.inf)
