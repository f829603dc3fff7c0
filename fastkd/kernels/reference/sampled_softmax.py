"""Cross entropy of a softmax over listed targets and drawn negatives, from their scores."""

from __future__ import annotations

import torch
from torch import Tensor


def sampled_softmax(scores: Tensor, log_weights: Tensor, probs: Tensor) -> Tensor:
    """Return ``sum_c q_bc (log sum_c' exp(s_bc' + w_bc') - s_bc - w_bc)``, Float[B].

    ``scores``, ``log_weights``, ``probs``: Float[B, C]. A candidate with weight -inf is missing from the sum; where it
    has probability (a repeated target), its score counts without the weight.
    """
    kept = log_weights != -torch.inf
    weighted = torch.where(kept, scores, 0) + log_weights
    # A finite stand-in gives a row of padding loss and gradient 0.
    empty = ~(weighted != -torch.inf).any(1, keepdim=True)
    total = torch.where(empty, 0, weighted).logsumexp(1, keepdim=True)
    own = torch.where(probs > 0, scores + torch.where(kept, log_weights, 0), 0)
    return (probs * torch.where(probs > 0, total - own, 0)).sum(1)
