"""Row-sparse gradient of a table in plain torch: one row per distinct id, the sum of what reached it."""

from __future__ import annotations

import torch
from torch import Tensor


def row_gradient(vectors: Tensor, ids: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows Int64[R] ascending and distinct, values [R, D]); see :func:`fastkd.ops.row_gradient`."""
    dtype = torch.promote_types(torch.promote_types(vectors.dtype, coefficients.dtype), torch.float32)
    listed, coefficient = ids.reshape(-1), coefficients.reshape(-1).to(dtype)
    kept = (listed >= 0).nonzero()[:, 0]
    rows, place = torch.unique(listed[kept].long(), return_inverse=True)
    owners = kept // max(ids.shape[1], 1)
    terms = coefficient[kept, None] * vectors.to(dtype)[owners]
    return rows, terms.new_zeros((len(rows), vectors.shape[1])).index_add(0, place, terms)
