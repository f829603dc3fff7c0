"""A distillation method at work on a small data set, with the least of a trainer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastkd import Interactions, Seeds
from fastkd.data.batch import Batch
from fastkd.distillation import LossParts, Method, Step
from fastkd.models import Recommender, Tables, Teacher


def bpr(tables: Tables, batch: Batch, model: object = None) -> Tensor:
    """The base loss of these tests: a sum over rows of the mean over negatives, in plain torch."""
    users, negatives = tables.user_vectors(batch.users), tables.item_vectors(batch.negatives)
    gap = (users * tables.item_vectors(batch.positives)).sum(-1, keepdim=True) - (users.unsqueeze(1) * negatives).sum(
        -1
    )
    return -functional.logsigmoid(gap).mean(1).sum()


@dataclass
class World:
    """A method at work on a small data set, with the least of a trainer."""

    train: Interactions
    student: Recommender
    teacher: Teacher
    method: Method
    seeds: Seeds

    def batch(self, entries: Any, epoch: int = 0) -> Batch:
        """The rows of ``entries``, with the method's negatives or arbitrary ones."""
        at = np.asarray(entries)
        negatives = self.method.negatives(epoch)
        if negatives is None:
            random = self.seeds.numpy("negatives", epoch)
            negatives = random.integers(0, self.train.num_items, (self.train.nnz, 2))
        columns = (at, self.train.entry_users()[at], self.train.indices[at], negatives[at])
        return Batch(*(torch.from_numpy(np.array(c)).to(torch.int64) for c in columns))

    def loss(self, batch: Batch, *, epoch: int = 0, step: int = 0, tables: Tables | None = None) -> LossParts:
        seen = self.student.tables() if tables is None else tables
        return self.method.loss(Step(batch=batch, tables=seen, epoch=epoch, step=step, base_loss=bpr))

    def optimizer(self) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [{"params": list(self.student.parameters())}]
        groups += [
            {"params": group.parameters, **({"lr": group.lr} if group.lr is not None else {})}
            for group in self.method.optimizer_groups()
        ]
        return torch.optim.Adam(groups, lr=0.01)

    def fit(
        self, optimizer: torch.optim.Optimizer, epochs: range, *, steps: tuple[range, ...] | None = None
    ) -> list[float]:
        """Train; return the loss of each step. ``steps``: which of each epoch's three, all of them if left out."""
        losses = []
        for at, epoch in enumerate(epochs):
            self.method.begin_epoch(epoch, self.student)
            order = self.seeds.numpy("order", epoch).permutation(self.train.nnz)
            for position, entries in enumerate(np.array_split(order, 3)):
                if steps is not None and position not in steps[at]:
                    continue
                batch, tables = self.batch(entries, epoch), self.student.tables()
                parts = self.loss(batch, epoch=epoch, step=3 * epoch + position, tables=tables)
                optimizer.zero_grad()
                total = bpr(tables, batch) + parts.kd
                total.backward()
                optimizer.step()
                losses.append(total.item())
        return losses
