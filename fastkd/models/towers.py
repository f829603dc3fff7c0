"""Towers: what a request needs of a model, as plain modules that ``torch.export`` takes whole.

A tower holds copies of the weights it reads, in eval mode and on the CPU, and nothing of the training data beyond them.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

USERS = "user rows; -1 is somebody new, who has no vector of his own"
HISTORY = "item rows of each user; -1 is padding, wherever it stands"

M = TypeVar("M", bound=nn.Module)


class Tower(nn.Module):
    """A function of Int64 tensors.

    ``shapes``: argument, in order, -> its sizes: a name is free at run time (the same for all arguments), a number not.
    ``meanings``: argument -> what it holds.
    """

    shapes: Mapping[str, tuple[str | int, ...]]
    meanings: Mapping[str, str]


class UserLookup(Tower):
    """``users`` Int64[B] -> Float[B, D], rows of a table Float[U, D]."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table.detach().cpu().clone())
        self.shapes, self.meanings = {"users": ("batch",)}, {"users": "user rows"}

    def forward(self, users: Tensor) -> Tensor:
        """Return the rows of ``users``."""
        return functional.embedding(users, self.table)


class HistoryTower(Tower, ABC):
    """``users`` Int64[B], ``history`` Int64[B, T] -> Float[B, D], from sums of item vectors and vectors of users' own.

    Subclasses provide :meth:`vectors`.
    """

    user_table: Tensor
    item_table: Tensor

    def __init__(self, user_table: Tensor, item_table: Tensor) -> None:
        super().__init__()
        self.register_buffer("user_table", user_table.detach().cpu().clone())
        self.register_buffer("item_table", item_table.detach().cpu().clone())
        self.shapes = {"users": ("batch",), "history": ("batch", "length")}
        self.meanings = {"users": USERS, "history": f"{HISTORY}; in any order"}

    @abstractmethod
    def vectors(self, own: Tensor, sums: Tensor, counts: Tensor) -> Tensor:
        """Return vectors from users' own ones (0 for -1) and sums over histories, Float[B, D], of Float[B, 1] items."""

    def forward(self, users: Tensor, history: Tensor) -> Tensor:
        """Return the vectors of users with these histories."""
        known = (history >= 0).to(self.item_table.dtype).unsqueeze(2)
        sums = (functional.embedding(history.clamp(min=0), self.item_table) * known).sum(1)
        own = functional.embedding(users.clamp(min=0), self.user_table) * (users >= 0).unsqueeze(1)
        return self.vectors(own, sums, known.sum(1))


def frozen(module: M) -> M:
    """Return a copy in eval mode, on the CPU, without gradients."""
    return copy.deepcopy(module).cpu().eval().requires_grad_(False)
