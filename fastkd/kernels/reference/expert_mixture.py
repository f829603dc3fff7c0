"""Mixture of small two-layer experts, one expert after the other: the truth in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def expert_mixture(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, gates: Tensor) -> Tensor:
    """Return ``sum_e z_e * (relu(x W1_e^T + b1_e) W2_e + b2_e)``.

    ``x`` [n, S]; ``w1`` [E, H, S]; ``b1`` [E, H]; ``w2`` [E, H, T]; ``b2`` [E, T]; ``gates`` z [n, E] -> [n, T].
    """
    mixed = torch.zeros(len(x), w2.shape[2], dtype=x.dtype, device=x.device)
    for expert in range(len(w1)):
        hidden = torch.relu(x @ w1[expert].T + b1[expert])
        mixed = mixed + gates[:, expert : expert + 1] * (hidden @ w2[expert] + b2[expert])
    return mixed
