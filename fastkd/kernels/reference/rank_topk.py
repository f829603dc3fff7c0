"""Exact masked top-K in plain torch: score a chunk of users against every item, sort, take K."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._ranking import canonical_scores, excluded_items, take_best

_CELLS = 1 << 22


@torch.no_grad()
def rank_topk(
    users: Tensor, items: Tensor, k: int, indptr: Tensor | None, indices: Tensor | None, bias: Tensor | None,
    fast: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return (scores Float32[B, K], ids Int64[B, K]); see :func:`fastkd.ops.rank_topk`. ``fast``: of bfloat16."""
    num_items = len(items)
    if fast:
        users, items = users.float().bfloat16(), items.float().bfloat16()
    scores = users.new_empty((len(users), k), dtype=torch.float32)
    ids = torch.empty((len(users), k), dtype=torch.int64, device=users.device)
    chunk = max(1, _CELLS // max(1, num_items))
    for start in range(0, len(users), chunk):
        part = slice(start, min(start + chunk, len(users)))
        row_scores = canonical_scores(users[part], items, bias)
        excluded = excluded_items(indptr, indices, part, num_items).to(users.device)
        row_ids = torch.arange(num_items, device=users.device).expand_as(row_scores)
        scores[part], ids[part] = take_best(row_scores, row_ids, excluded, k)
    return scores, ids
