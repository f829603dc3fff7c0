"""What every recommender offers to training, distillation, ranking and serving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Tables:
    """User and item vectors whose inner product is the score.

    ``users``: Float[Tensor, "U D"], ``items``: Float[Tensor, "N D"]. Made once per training step, so a
    graph model propagates once however many losses read from it. ``sparse``: losses are asked for row-sparse
    gradients of both tables (which then must be parameters), so that a step does not cost U or N rows.
    """

    users: Tensor
    items: Tensor
    sparse: bool = False

    def user_vectors(self, users: Tensor) -> Tensor:
        """Return the vectors of ``users`` Int[Tensor, "B"] -> Float[Tensor, "B D"], differentiable."""
        # functional.embedding and not indexing: its backward is parallel and deterministic on the CPU.
        return functional.embedding(users, self.users, sparse=self.sparse)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return the vectors of ``items`` Int[Tensor, "..."] -> Float[Tensor, "... D"], differentiable."""
        return functional.embedding(items, self.items, sparse=self.sparse)

    def detach(self) -> Tables:
        """Return the same values outside autograd."""
        return Tables(self.users.detach(), self.items.detach())


class Recommender(nn.Module, ABC):
    """A model whose score is the inner product of a user vector and an item vector."""

    num_users: int
    num_items: int
    dim: int

    @abstractmethod
    def tables(self) -> Tables:
        """Return all user and item vectors, differentiable; one propagation for graph models."""

    def frozen_tables(self) -> Tables:
        """Return :meth:`tables` in eval mode and outside autograd; the mode is restored."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self.tables().detach()
        finally:
            self.train(training)

    def num_parameters(self) -> int:
        """Return the number of trainable scalars."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
