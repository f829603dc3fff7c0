"""Running top-K over chunks of scores in plain torch: the best so far, followed by the chunk, ranked again."""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.reference._ranking import take_best


@torch.no_grad()
def score_topk_chunked(
    best_scores: Tensor, best_ids: Tensor, scores: Tensor, first: int, indptr: Tensor | None, indices: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return Float32[B, K] and Int64[B, K]: the best so far with ``scores`` Float32[B, C] of items ``first`` on.

    ``best_ids`` are below ``first`` (or -1), so columns of equal score stand in order of id. ``indptr`` Int64[B + 1]
    and ``indices``: items to leave out, whole rows.
    """
    rows, width = scores.shape
    ids = torch.arange(first, first + width, device=scores.device).expand(rows, width)
    excluded = torch.zeros_like(scores, dtype=torch.bool)
    if indptr is not None and indices is not None:
        entry_rows = torch.repeat_interleave(torch.arange(rows, device=scores.device), indptr.diff())
        here = (indices >= first) & (indices < first + width)
        excluded[entry_rows[here], indices[here].long() - first] = True
    return take_best(
        torch.cat([best_scores, scores], dim=1),
        torch.cat([best_ids, ids], dim=1),
        torch.cat([best_ids == -1, excluded], dim=1),
        best_ids.shape[1],
    )
