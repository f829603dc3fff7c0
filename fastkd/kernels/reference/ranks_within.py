"""Where the items of one list stand in another, in plain torch: compare every pair of entries."""

from __future__ import annotations

import torch
from torch import Tensor

_CELLS = 1 << 24


@torch.no_grad()
def ranks_within(lists_a: Tensor, lists_b: Tensor) -> Tensor:
    """Return Int64[B, M]; see :func:`fastkd.ops.ranks_within`."""
    (rows, width), behind = lists_a.shape, lists_b.shape[1] + 1
    ranks = torch.full((rows, width), behind, dtype=torch.int64, device=lists_a.device)
    chunk = max(1, _CELLS // max(1, width * lists_b.shape[1]))
    for start in range(0, rows if lists_b.shape[1] else 0, chunk):
        a, b = lists_a[start : start + chunk, :, None], lists_b[start : start + chunk, None, :]
        same = a == b
        ranks[start : start + chunk] = torch.where(same.any(2), 1 + same.to(torch.int8).argmax(2), behind)
    return ranks.masked_fill(lists_a < 0, 0)
