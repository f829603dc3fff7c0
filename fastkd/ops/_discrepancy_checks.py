"""What ``sample_rank_discrepancy`` asks of its arguments."""

from __future__ import annotations

import math
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from fastkd.core.errors import DataError
from fastkd.core.interactions import Interactions
from fastkd.kernels._discrepancy import MAX_ITEMS
from fastkd.ops._checks import check_device, check_float, check_ids

Direction = Literal["teacher_to_student", "student_to_teacher"]


@runtime_checkable
class RankedLists(Protocol):
    """Ranked lists with their scores or more, as ``TopKLists`` of a teacher and what ``rank_topk`` returns."""

    @property
    def ids(self) -> Tensor:
        """Int64[U, M], best first, -1 where a list ends early."""
        ...


Side = tuple[Tensor, Tensor] | Tensor | RankedLists
"""Tables (Float[U, D], Float[N, D]), or ranked lists Int64[U, M], alone or as ``ids`` of something."""


def plain(side: Side) -> tuple[Tensor, Tensor] | Tensor:
    """Return tables as they are and lists as Int64[U, M]."""
    ids = None if isinstance(side, Tensor) else getattr(side, "ids", None)
    return ids if isinstance(ids, Tensor) else side  # type: ignore[return-value]


def check_sides(
    teacher: tuple[Tensor, Tensor] | Tensor, student: tuple[Tensor, Tensor] | Tensor, exclude: Interactions
) -> None:
    """Refuse tables and lists that do not fit each other or ``exclude``."""
    if not isinstance(exclude, Interactions):
        raise TypeError(f"exclude must be Interactions, got {type(exclude).__name__}")
    firsts = []
    for name, side in (("teacher", teacher), ("student", student)):
        if isinstance(side, Tensor):
            _check_lists(name, side, exclude)
            firsts.append(side)
        elif isinstance(side, (tuple, list)) and len(side) == 2:
            _check_tables(name, *side, exclude)
            firsts.append(side[0])
        else:
            raise TypeError(
                f"{name} must be a pair of tables (users, items), or ranked lists: TopKLists or Int64[U, M], "
                f"got {type(side).__name__}"
            )
    check_device("teacher", firsts[0], "student", firsts[1])
    if exclude.num_items > MAX_ITEMS:
        raise ValueError(f"a catalogue of {exclude.num_items} items is past this op's {MAX_ITEMS}")


def _check_lists(name: str, lists: Tensor, exclude: Interactions) -> None:
    check_ids(f"{name} lists", lists, "U M")
    if len(lists) != exclude.num_users:
        raise ValueError(f"{name} lists have {len(lists)} rows, exclude is {exclude!r}")
    if lists.device.type == "cpu" and lists.numel() and not torch.compiler.is_compiling():
        largest = int(lists.max())
        if largest >= exclude.num_items:
            raise ValueError(f"{name} lists hold item {largest}, exclude is {exclude!r}")


def _check_tables(name: str, users: Tensor, items: Tensor, exclude: Interactions) -> None:
    check_float(f"{name} users", users, "U D")
    check_float(f"{name} items", items, "N D")
    check_device(f"{name} users", users, f"{name} items", items)
    if users.shape[1] != items.shape[1]:
        raise ValueError(
            f"{name} users and items must have the same width, got {list(users.shape)} and {list(items.shape)}"
        )
    if (users.shape[0], items.shape[0]) != (exclude.num_users, exclude.num_items):
        raise ValueError(f"{name} has {users.shape[0]} users and {items.shape[0]} items, exclude is {exclude!r}")


def check_options(direction: str, epsilon: float, epoch: int, rank_sign: int) -> None:
    """Refuse options out of their range."""
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be a finite number above 0, got {epsilon!r}")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise ValueError(f"epoch must be a whole number of at least 0, got {epoch!r}")
    if rank_sign not in (1, -1):
        raise ValueError(f"rank_sign must be 1 (the paper) or -1 (the notebooks), got {rank_sign!r}")


def check_users(users: Tensor | None, num_users: int, device: torch.device) -> Tensor:
    """Return Int64[B] on the device; None stands for all users."""
    if users is None:
        return torch.arange(num_users, device=device)
    check_ids("users", users, "B")
    given = users.detach()
    if not torch.compiler.is_compiling():  # where they are: users from the host make nobody wait for the device
        wrong = given[(given < 0) | (given >= num_users)]
        if len(wrong):
            raise ValueError(f"users holds {int(wrong[0])}, outside [0, {num_users})")
    return given.to(device, torch.int64).contiguous()


def check_counters(counters: Tensor, users: Tensor | None, rows: int, device: torch.device) -> Tensor:
    """Return Int64[B] on the device, one for each row."""
    if users is not None:
        raise ValueError("give users (rows of whole tables) or counters (of tables that hold those rows), not both")
    check_ids("counters", counters, "B")
    if len(counters) != rows:
        raise ValueError(f"counters has {len(counters)} rows, exclude {rows}")
    return counters.detach().to(device, torch.int64).contiguous()


def offsets_of(n_per_user: int | Tensor, rows: int, device: torch.device) -> tuple[Tensor, int, int]:
    """Return Int64[B + 1], where each user's samples start, their number and the most of a user."""
    if isinstance(n_per_user, Tensor):
        check_ids("n_per_user", n_per_user, "B")
        if len(n_per_user) != rows:
            raise ValueError(f"n_per_user has {len(n_per_user)} rows for {rows} users")
        counts = n_per_user.detach().to(device, torch.int64)
        if rows and int(counts.min()) < 0:
            raise ValueError(f"n_per_user holds {int(counts.min())}; draws are not negative")
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return offsets, int(offsets[-1]), int(counts.max()) if rows else 0
    if isinstance(n_per_user, bool) or not isinstance(n_per_user, int):
        raise TypeError(f"n_per_user must be a number or Int64[B], got {n_per_user!r}")
    if n_per_user < 0:
        raise ValueError(f"n_per_user holds {n_per_user}; draws are not negative")
    return torch.arange(rows + 1, device=device) * n_per_user, rows * n_per_user, n_per_user


def check_left(ids: Tensor, exclude: Interactions, offsets: Tensor, most: int, replacement: bool) -> None:
    """Refuse users with fewer items left than their draws need; the device is asked only where one could be."""
    degrees = exclude.degrees()
    needed = min(most, 1) if replacement else most
    if not len(ids) or int(degrees.max(initial=0)) + needed <= exclude.num_items:
        return
    rows, counts = ids.cpu().numpy(), offsets.diff().cpu().numpy()
    left = exclude.num_items - degrees[rows]
    short = np.flatnonzero((counts > 0) & (left < (1 if replacement else counts)))
    if len(short) and left[short[0]] == 0:
        raise DataError(
            f"user {rows[short[0]]} has seen all {exclude.num_items} items, so none is left to draw "
            f"({len(short)} such user(s)); leave them out of users or give them 0 draws"
        )
    if len(short):
        b = short[0]
        raise DataError(
            f"user {rows[b]} has {left[b]} item(s) left but {counts[b]} draws without replacement "
            f"({len(short)} such user(s)); draw fewer, or with replacement"
        )
