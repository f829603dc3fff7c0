"""A map of its own for each row, made by a hyper-network: the truth in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def hyper_projection(x: Tensor, context: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Return ``y_n = W_n x_n`` with ``W_n = reshape(W2 relu(W1 v_n + b1) + b2, T, S)``.

    ``x`` [n, S]; ``context`` v [n, C]; ``w1`` [H, C]; ``b1`` [H]; ``w2`` [T S, H]; ``b2`` [T S] -> [n, T].
    """
    maps = torch.relu(context @ w1.T + b1) @ w2.T + b2
    return (maps.view(len(x), len(w2) // x.shape[1], x.shape[1]) @ x.unsqueeze(2)).squeeze(2)
