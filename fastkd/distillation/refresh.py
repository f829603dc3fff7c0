"""Lists made block by block, and the window of epochs for which those made from the student are good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import CheckpointError
from fastkd.core.interactions import Interactions
from fastkd.distillation.method import Method
from fastkd.models.protocol import Tables
from fastkd.models.teacher import Teacher, TopKLists

USER_BLOCK = 8192
BLOCK_CELLS = 1 << 24
"""Users ranked by one sweep and entries of their lists: bound what a refresh holds beside its result."""


def user_blocks(method: Method, users: int, what: str, *, width: int = 1, most: int | None = None) -> Iterator[Tensor]:
    """Cut all users into blocks of ids Int64[b] and tell ``method.progress`` of each that is done.

    ``width``: cells a user needs while its block is at work, which bounds the block, as ``most`` users do.
    """
    size = max(1, min(USER_BLOCK if most is None else min(most, USER_BLOCK), BLOCK_CELLS // max(1, width)))
    for start in range(0, users, size):
        stop = min(start + size, users)
        yield torch.arange(start, stop)
        if method.progress is not None:
            method.progress(what, stop, users)


def teacher_lists(
    method: Method, teacher: Teacher, k: int, exclude: Interactions | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the teacher's best ``k`` items of each user, Int32[U, k], and their scores Float32[U, k], on ``device``.

    Made in blocks and kept narrow: lists are the largest thing a method holds. Padding is -1 and -inf, at the end.
    """
    ids = torch.full((teacher.num_users, k), -1, dtype=torch.int32, device=device)
    scores = torch.full((teacher.num_users, k), -torch.inf, device=device)
    for rows, best in _ranked(method, teacher, k, exclude, "ranking by the teacher"):
        ids[rows, : best.ids.shape[1]] = best.ids.to(device, torch.int32)
        scores[rows, : best.ids.shape[1]] = best.scores.to(device)
    return ids, scores


def teacher_ids(
    method: Method, teacher: Teacher, k: int, exclude: Interactions | None, device: torch.device,
    *, what: str = "ranking by the teacher",
) -> Tensor:  # fmt: skip
    """Return the lists of :func:`teacher_lists` without their scores, Int32[U, k]; ``what`` is told as progress."""
    ids = torch.full((teacher.num_users, k), -1, dtype=torch.int32, device=device)
    for rows, best in _ranked(method, teacher, k, exclude, what):
        ids[rows, : best.ids.shape[1]] = best.ids.to(device, torch.int32)
    return ids


def _ranked(
    method: Method, teacher: Teacher, k: int, exclude: Interactions | None, what: str
) -> Iterator[tuple[slice, TopKLists]]:
    width, teacher = min(k, teacher.num_items), teacher.at_hand()
    for users in user_blocks(method, teacher.num_users, what, width=k):
        rows = range(int(users[0]), int(users[-1]) + 1)
        yield slice(rows.start, rows.stop), teacher.lists(width, exclude, users=rows)


def block_lists(tables: Tables, users: Tensor, k: int, exclude: Interactions | None) -> Tensor:
    """Return the best ``k`` items Int64[b, k] of a block of :func:`user_blocks`, -1 padding where there are fewer."""
    seen = None if exclude is None else exclude.rows(users.numpy())
    width = min(k, tables.num_items)
    ids = tables.topk(users.to(tables.device), width, exclude=seen).ids
    return torch.nn.functional.pad(ids, (0, k - width), value=-1)


def block_scores(tables: Tables, users: Tensor, ids: Tensor) -> Tensor:
    """Return the scores Float[b, C] of listed items Int[b, C] for a block of users; -inf where an id is -1."""
    return tables.scores(users.to(tables.device), ids.to(tables.device))


class Window:
    """Integer tables that are made from the student at the first of every ``update`` epochs and then stay.

    They depend on the student's past, so they travel through ``state_dict``: a run resumed inside the window goes on
    with them instead of asking a student who has learned since.
    """

    def __init__(self, method: str, update: int, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self._method, self._update, self._shapes = method, update, dict(shapes)
        self._device = device
        self._start = -1
        self._tables: dict[str, Tensor] = {}

    def due(self, epoch: int) -> bool:
        """Return whether ``epoch`` lies outside the window."""
        return epoch - epoch % self._update != self._start

    def open(self, epoch: int) -> dict[str, Tensor]:
        """Start the window of ``epoch``; return its tables Int32, full of padding, to be filled."""
        self._tables = {
            name: torch.full(shape, -1, dtype=torch.int32, device=self._device) for name, shape in self._shapes.items()
        }
        self._start = epoch - epoch % self._update
        return self._tables

    @property
    def start(self) -> int:
        """The first epoch of the window, -1 before there is one."""
        return self._start

    def __getitem__(self, name: str) -> Tensor:
        """Return one table."""
        if name not in self._tables:
            raise ValueError(f"{self._method} has no lists yet: call begin_epoch(epoch, student) first")
        return self._tables[name]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the tables and the epoch they were made at."""
        if self._start < 0:
            return {}
        tables = {name: table.cpu().numpy() for name, table in self._tables.items()}
        return {"start": np.array([self._start], dtype=np.int64), **tables}

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore :meth:`state_dict`; tables of other names or shapes are refused."""
        self._start, self._tables = -1, {}
        if not state:
            return
        wanted = {"start": (1,), **self._shapes}
        for name in sorted(set(wanted) | set(state)):
            got = tuple(state[name].shape) if name in state else None
            if name not in wanted or got != tuple(wanted[name]):
                expected = list(wanted[name]) if name in wanted else "nothing"
                given = list(got) if got is not None else "nothing"
                raise CheckpointError(f"{self._method} state {name}: expected {expected}, got {given}")
        self._tables = {
            name: torch.from_numpy(np.array(state[name], dtype=np.int32)).to(self._device) for name in self._shapes
        }
        self._start = int(state["start"][0])


class Windowed(Method):
    """A method whose whole state is the tables of ``self._window``, which ``prepare`` makes."""

    _window: Window

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the tables in use and the epoch they were made at."""
        return self._window.state_dict()

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore :meth:`state_dict`, after ``prepare``; tables of another shape are refused."""
        self._window.load_state_dict(state)
        if state:
            self._read()

    def _read(self) -> None:
        """Take up what has been restored, where steps need more than the tables."""
