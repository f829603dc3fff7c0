"""What the ranking ops share: the canonical score and the one order of items.

Order: higher score first, then lower item id; NaN scores after all others; excluded items last of all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def canonical_scores(users: Tensor, items: Tensor, bias: Tensor | None) -> Tensor:
    """Return Float32[B, N]: inner products accumulated in float64 in order of d, rounded to float32; plus bias.

    Products of float32 values (or narrower) are exact in float64, so fused or not, on any device, the bits agree.
    """
    total = users.new_zeros((len(users), len(items)), dtype=torch.float64)
    for d in range(users.shape[1]):
        total += users[:, d, None].double() * items[:, d].double()
    scores = total.float()
    return scores if bias is None else scores + bias.float()


def excluded_items(indptr: Tensor | None, indices: Tensor | None, rows: slice, num_items: int) -> Tensor:
    """Return Bool[B, N], true for the CSR entries of ``rows``; without a CSR nothing is excluded."""
    count = rows.stop - rows.start
    if indptr is None or indices is None:
        return torch.zeros((count, num_items), dtype=torch.bool)
    starts = indptr[rows.start : rows.stop + 1]
    mask = torch.zeros((count, num_items), dtype=torch.bool, device=indices.device)
    entry_rows = torch.repeat_interleave(torch.arange(count, device=indices.device), starts.diff())
    mask[entry_rows, indices[int(starts[0]) : int(starts[-1])].long()] = True
    return mask


def rank_order(scores: Tensor, excluded: Tensor) -> Tensor:
    """Return Int64[B, N]: columns best first. Columns of equal score keep their order; excluded ones come last."""
    # An ascending sort puts NaN last, so the scores are negated; two stable sorts make one by (excluded, score).
    by_score = torch.sort(-scores, dim=1, stable=True).indices
    last = torch.sort(excluded.gather(1, by_score).to(torch.int8), dim=1, stable=True).indices
    return by_score.gather(1, last)


def take_best(scores: Tensor, ids: Tensor, excluded: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the best ``k`` of Float32[B, C] as (scores, ids), padded with -inf and -1 where fewer are allowed."""
    order = rank_order(scores, excluded)[:, :k]
    best, best_ids, padding = scores.gather(1, order), ids.gather(1, order), excluded.gather(1, order)
    # -0.0 + 0.0 is 0.0: equal scores have equal bits. NaN likewise has one spelling.
    best = torch.where(best.isnan(), torch.nan, best + 0.0)
    return best.masked_fill(padding, -torch.inf), best_ids.masked_fill(padding, -1)
