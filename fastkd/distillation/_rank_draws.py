"""Two models as ``sample_rank_discrepancy`` takes them, a block of users at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.distillation.refresh import block_lists
from fastkd.models.pairs import PairTables
from fastkd.models.protocol import Tables

BLOCK_USERS = 4096
BLOCK_DRAWS = 1 << 22
"""Users and draws of one call: proposals of so many users fit a GPU, and a progress bar moves."""
BLOCK_RANKS = 1 << 21
"""Ranks held at a time where a model scores pairs: all items of as many users as these hold, at least of one."""


def rank_blocks(teacher: Tables, student: Tables, counts: Tensor) -> Iterator[range]:
    """Cut all users into blocks of bounded draws and ranks, so that memory beside the result does not grow with users.

    ``counts``: draws of each user, Int64[U] on the CPU.
    """
    most = max(1, BLOCK_RANKS // max(1, student.num_items)) if _pairs(teacher, student) else BLOCK_USERS
    ends = counts.cumsum(0).numpy()
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        fitting = int(np.searchsorted(ends, before + BLOCK_DRAWS, side="right"))
        last = min(max(fitting, first + 1), first + most)
        yield range(first, last)
        first = last


def rank_sides(teacher: Tables, student: Tables, users: range, train: Interactions) -> dict[str, Any]:
    """Return ``teacher``, ``student``, ``exclude`` and whose draws they are, for the users of a block.

    Vectors stay where they are. A model that scores pairs ranks all items that the users of the block have not seen,
    chunk of the catalogue by chunk; its complete list has the ranks that tables of the same scores have.
    """
    block = torch.arange(users.start, users.stop)
    if not _pairs(teacher, student):
        models = ((tables.users, tables.items) for tables in (teacher, student))
        return dict(zip(("teacher", "student"), models, strict=True)) | {"users": block, "exclude": train}
    sides = (_side(tables, block, train) for tables in (teacher, student))
    seen = train.rows(block.numpy())
    return dict(zip(("teacher", "student"), sides, strict=True)) | {"counters": block, "exclude": seen}


def _pairs(*models: Tables) -> bool:
    return any(isinstance(tables, PairTables) for tables in models)


def _side(tables: Tables, block: Tensor, train: Interactions) -> tuple[Tensor, Tensor] | Tensor:
    if isinstance(tables, PairTables):
        return block_lists(tables, block, train.num_items, train)
    return tables.users[block.to(tables.device)], tables.items
