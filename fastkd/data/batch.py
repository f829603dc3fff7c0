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
    ``runs``: stretches of rows of one user, so at least as many as there are users; :meth:`to` counts them before the
    rows leave the CPU, because to count them elsewhere would make the host wait.
    """

    entries: Tensor
    users: Tensor
    positives: Tensor
    negatives: Tensor
    runs: int | None = None

    def __len__(self) -> int:
        return len(self.users)

    def to(self, device: str | torch.device) -> Batch:
        """Return the batch on ``device``; from pinned memory the copy does not keep the host waiting."""
        ahead = torch.device(device).type != "cpu"  # towards the host it would be read before it is there
        runs = self.runs
        if runs is None and ahead and self.users.device.type == "cpu":
            runs = int((self.users[1:] != self.users[:-1]).sum()) + min(1, len(self))
        fields = (self.entries, self.users, self.positives, self.negatives)
        entries, users, positives, negatives = (field.to(device, non_blocking=ahead) for field in fields)
        return Batch(entries, users, positives, negatives, runs)
