"""Row-sparse gradient of a table on the GPU: sort entries by id, sum each run into the place of its first entry.

Shapes: B vectors, D dimensions, C ids of a vector, E = B x C entries. Nothing waits for the device, so distinct ids are
not counted: the result has E rows, in sorted order; a repeated id has its sum at its first row and zeros after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastkd.kernels.triton._launch import new
from fastkd.kernels.triton._rows import compute_dtype
from fastkd.kernels.triton._segment_sum import sum_runs


def row_gradient(vectors: Tensor, ids: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows Int64[E] ascending, values Float[E, D]); see :func:`fastkd.ops.row_gradient`."""
    dtype = compute_dtype(vectors, coefficients)
    rows, order = torch.sort(ids.reshape(-1).clamp(min=-1).long(), stable=True)
    values = new((len(rows), vectors.shape[1]), dtype, vectors.device).zero_()
    if values.numel():
        # A run's key is where it starts, so that the kernels write each sum there.
        at = torch.arange(len(rows), device=rows.device)
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = rows[1:] != rows[:-1]
        keys = torch.where(rows < 0, -1, torch.where(first, at, 0).cummax(0).values)
        sum_runs(coefficients.to(dtype).contiguous(), keys, order, vectors.contiguous(), None, values, ids.shape[1])
    return rows, values
