"""What the references of the catalogue ops share: all scores at once, which is what the others avoid."""

from __future__ import annotations

import torch
from torch import Tensor


def catalogue_scores(
    users: Tensor, items: Tensor, bounds: Tensor | None, indices: Tensor | None, bias: Tensor | None, scale: float
) -> Tensor:
    """Return ``z_ui = scale <users_u, items_i> + bias_i`` [B, N], -inf for what is excluded."""
    dtype = torch.promote_types(torch.promote_types(users.dtype, items.dtype), torch.float32)
    with torch.autocast(users.device.type, enabled=False):
        scores = users.to(dtype) @ items.to(dtype).T * scale
    if bias is not None:
        # Filled and not only added: an item of bias -inf is out, and so is its gradient, even where all are.
        scores = (scores + bias.to(dtype)).masked_fill(bias == -torch.inf, -torch.inf)
    return without(scores, bounds, indices)


def without(scores: Tensor, bounds: Tensor | None, indices: Tensor | None) -> Tensor:
    """Return scores [B, N], -inf for what is excluded."""
    if bounds is None or indices is None:
        return scores
    rows, at = entries(bounds)
    # One column more, for padding.
    mask = torch.zeros(scores.shape[0], scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
    mask[rows, indices[at].long()] = True
    return scores.masked_fill(mask[:, :-1], -torch.inf)


def entries(bounds: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of each entry, and where it stands, of rows ``bounds`` Int64[B, 2] (first, past the last)."""
    lengths = bounds[:, 1] - bounds[:, 0]
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=bounds.device), lengths)
    within = torch.arange(len(rows), device=bounds.device) - (lengths.cumsum(0) - lengths)[rows]
    return rows, bounds[rows, 0] + within
