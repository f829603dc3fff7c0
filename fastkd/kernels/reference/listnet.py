"""ListNet's cross entropy of two softmaxes over a list: ``-sum_c softmax(t / T)_c log softmax(s / T)_c``."""

from __future__ import annotations

import torch
from torch import Tensor


def listnet(scores: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the loss Float[B] of each row. See :func:`fastkd.ops.listnet`."""
    dtype = torch.promote_types(scores.dtype, torch.float32)
    absent = (scores == -torch.inf) | (teacher == -torch.inf)
    # Finite where absent, so that no gradient is inf - inf; a row with nothing in it gives equal shares, masked below.
    lowest = torch.finfo(dtype).min / 2
    student_log = (scores.to(dtype) / temperature).masked_fill(absent, lowest).log_softmax(1)
    share = (teacher.to(dtype) / temperature).masked_fill(absent, lowest).softmax(1)
    return -(share * student_log).masked_fill(absent, 0).sum(1)
