"""One training batch of interactions with their sampled negatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    ``entries`` Int64[B]: positions in the training CSR (``train.indices``), so that anything drawn per
    interaction can be looked up; ``users`` Int64[B]; ``positives`` Int64[B]; ``negatives`` Int64[B, n].
    """

    entries: Tensor
    users: Tensor
    positives: Tensor
    negatives: Tensor

    def __len__(self) -> int:
        return len(self.users)

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch on ``device``; from pinned memory the copy does not keep the host waiting."""
        fields = (self.entries, self.users, self.positives, self.negatives)
        ahead = torch.device(device).type != "cpu"  # towards the host it would be read before it is there
        return Batch(*(field.to(device, non_blocking=ahead) for field in fields))
