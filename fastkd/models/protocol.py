"""What every recommender offers to training, distillation, ranking and serving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd import ops
from fastkd.core.interactions import Interactions
from fastkd.data.batch import Batch
from fastkd.models.towers import Tower, UserLookup


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

    @property
    def num_users(self) -> int:
        """Number of users that can be scored."""
        return len(self.users)

    @property
    def num_items(self) -> int:
        """Number of items that can be scored."""
        return len(self.items)

    @property
    def device(self) -> torch.device:
        """Where ids are expected and scores are made."""
        return self.items.device

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Return the scores Float[B, C] of listed items Int[B, C] for ``users`` Int[B]; -inf where an id is -1."""
        # Ids come from validated interactions and checked draws; on a GPU a check would wait for the device.
        vectors = self.user_vectors(users)
        return ops.gather_dot(vectors, self.items, ids, validate=not ids.is_cuda, sparse_grad=self.sparse)

    def topk(
        self, users: Tensor, k: int, *, exclude: Interactions | None = None, among: Tensor | None = None,
        backend: str = "auto",
    ) -> ops.TopK:  # fmt: skip
        """Return the best ``k`` items of ``users`` Int64[B] outside ``exclude``, which has a row for each of them.

        ``among``: ascending ids Int64[n] of the items that compete. Results, and the columns of ``exclude``, are then
        positions in it. Exact, ties to the lower id; see :func:`fastkd.ops.rank_topk`.
        """
        items = self.items if among is None else self.items[among]
        return ops.rank_topk(self.user_vectors(users), items, k, exclude=exclude, backend=backend)

    def detach(self) -> Tables:
        """Return the same values outside autograd."""
        return Tables(self.users.detach(), self.items.detach())

    def frozen(self) -> Tables:
        """Return the same values outside autograd, to be read when the model has another mode or other weights."""
        return self.detach()


class Recommender(nn.Module, ABC):
    """A model that scores every user and item; the score is an inner product, but for a ``PairRecommender``."""

    num_users: int
    num_items: int
    dim: int
    batch_by_user: bool = False
    """Whether a batch should hold the rows of a user together, for models that read a user's whole sequence."""

    built_from: Mapping[str, Any] | None = None
    """What ``build_model`` made this of: its configuration and the seed of its first weights, as plain values."""

    @abstractmethod
    def tables(self) -> Tables:
        """Return all user and item vectors, differentiable; one propagation for graph models."""

    def row_losses(self, tables: Tables, batch: Batch, *, epoch: int = 0, step: int = 0) -> Tensor:
        """Return the base loss of each row of ``batch``, Float[B]: BPR, unless a model brings its own.

        ``tables``: those of this training step. ``epoch``, ``step`` (global): counters for whatever is drawn.
        """
        return bpr_rows(tables, batch)

    def options(self) -> Mapping[str, Any]:
        """Return what decides the model's results beside the shapes of its parameters, as plain values."""
        return {}

    def frozen_tables(self) -> Tables:
        """Return :meth:`tables` in eval mode and outside autograd; the mode is restored."""
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                return self.tables().frozen()
        finally:
            self.train(training)

    def user_tower(self) -> Tower:
        """Return what makes user vectors from what a request brings; they belong to the items of frozen_tables().

        Here a look-up of the frozen vectors; models that make a user from his history take the history.
        """
        return UserLookup(self.frozen_tables().users)

    def num_parameters(self) -> int:
        """Return the number of trainable scalars."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def bpr_rows(tables: Tables, batch: Batch) -> Tensor:
    """Return ``mean_j -log sigmoid(s(u_b, i_b) - s(u_b, j))`` over the negatives j of each row, Float[B].

    A negative of -1 is padding and adds nothing. Rendle et al., "BPR" (UAI'09).
    """
    scores = tables.scores(batch.users, listed(batch))
    return ops.pairwise(scores[:, 0], scores[:, 1:], loss="bpr")


def bce_rows(tables: Tables, batch: Batch) -> Tensor:
    """Return the cross entropy of each row's positive (target 1) and negatives (target 0), summed, Float[B].

    A negative of -1 is padding and adds nothing.
    """
    scores = tables.scores(batch.users, listed(batch))
    targets = torch.zeros_like(scores)
    targets[:, 0] = 1
    return ops.weighted_bce(scores, targets)


def listed(batch: Batch) -> Tensor:
    """Return the positive and the negatives of each row side by side, Int64[B, 1 + n]."""
    return torch.cat([batch.positives[:, None], batch.negatives], dim=1)
