"""Exact ranks of given items in plain torch: score a chunk of users against every item, sort, look up."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._ranking import canonical_scores, excluded_items, rank_order

_CELLS = 1 << 22


@torch.no_grad()
def rank_of(
    users: Tensor, items: Tensor, ids: Tensor, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Return Int64[B, C]; see :func:`fastkd.ops.rank_of`."""
    ranks = torch.zeros(ids.shape, dtype=torch.int64, device=ids.device)
    if ids.numel() == 0 or len(items) == 0:
        return ranks
    chunk = max(1, _CELLS // len(items))
    for start in range(0, len(users), chunk):
        part = slice(start, min(start + chunk, len(users)))
        scores = canonical_scores(users[part], items, bias)
        excluded = excluded_items(indptr, indices, part, len(items)).to(users.device)
        order = rank_order(scores, torch.zeros_like(excluded))
        allowed = (~excluded).long().gather(1, order)
        better = torch.empty_like(allowed).scatter_(1, order, allowed.cumsum(1) - allowed)
        wanted = ids[part].long()
        ranks[part] = (1 + better.gather(1, wanted.clamp(min=0))).masked_fill(wanted < 0, 0)
    return ranks
