"""A low-pass filter on a graph in its exact, spectral form: the truth in plain torch, for graphs that fit a matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def graph_filter(x: Tensor, offsets: Tensor, neighbours: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Return ``U h(lambda) U^T x``, ``h(lambda) = 1 - strength lambda``, with U the Laplacian's vectors.

    The Laplacian is ``I - A``; A [N, N], symmetric, in CSR as in :func:`fastkd.ops.graph_filter`. ``x`` [N, D].
    """
    values, vectors = spectrum(offsets, neighbours, weights, x.dtype)
    return vectors @ ((1.0 - strength * values)[:, None] * (vectors.T @ x))


def spectrum(offsets: Tensor, neighbours: Tensor, weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return eigenvalues [N], ascending from the smoothest, and eigenvectors [N, N] of the Laplacian ``I - A``."""
    count = len(offsets) - 1
    rows = torch.repeat_interleave(torch.arange(count, device=offsets.device), offsets.diff().to(torch.int64))
    adjacency = torch.zeros(count, count, dtype=dtype, device=offsets.device)
    adjacency.index_put_((rows, neighbours.to(torch.int64)), weights.to(dtype), accumulate=True)
    found: tuple[Tensor, Tensor] = torch.linalg.eigh(torch.eye(count, dtype=dtype, device=adjacency.device) - adjacency)
    return found
