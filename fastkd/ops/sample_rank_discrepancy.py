"""Items that one model ranks far above another, drawn with replacement: the samples of Bidirectional Distillation."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import DataError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.ops._checks import check_float, check_ids
from fastkd.ops._dispatch import choose, kernel

Direction = Literal["teacher_to_student", "student_to_teacher"]


def sample_rank_discrepancy(
    teacher: tuple[Tensor, Tensor],
    student: tuple[Tensor, Tensor],
    n_per_user: int | Tensor,
    *,
    users: Tensor,
    direction: Direction,
    epsilon: float,
    exclude: Interactions,
    seed: int,
    epoch: int,
    rank_sign: Literal[1, -1] = 1,
    backend: str = "auto",
) -> Tensor:
    """Return items drawn, with replacement, by how differently teacher and student rank them.

    Over the items O_u that user u has not seen, ``r`` = 1 for the best (order of :func:`fastkd.ops.rank_topk`):

    - ``teacher_to_student``: ``w_j = tanh(max((r_S(j) - r_T(j)) epsilon, 0))``, what the student ranks too low;
      uniform over O_u where all weights are 0.
    - ``student_to_teacher``: ``w_j = exp((r_T(j) - r_S(j)) epsilon)``, evaluated relative to the largest.

    Draw s of user u is the inverse of the running sum of weights at a uniform of Philox4x32-10 with key
    ``Seeds(seed).key("sample_rank_discrepancy/" + direction, epoch)`` and counter ``(s, user low, user high, 0)``. So
    it does not depend on the batch, threads or backend; scores are canonical, equal to the last bit everywhere.

    Args:
        teacher: (Float[U, D], Float[N, D]), tables whose inner products are the scores.
        student: likewise; its D may differ.
        n_per_user: draws per user, a number or Int64[B].
        users: Int64[B], rows of the user tables and of ``exclude``; also the random counter.
        direction: who teaches.
        epsilon: per rank, above 0. A value c published as ``epsilon times N`` is ``epsilon=c / N``.
        exclude: seen items of all U users; never drawn.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        rank_sign: -1 swaps the ranks' roles, as the authors' notebooks do (they rank in ascending order).
        backend: ``"auto"``, ``"numba"`` or ``"reference"``; both run on the CPU, the reference makes dense chunks.

    Returns:
        Int64[sum of n_per_user] in the order of ``users``. With ``users = arange(U)`` and
        ``n_per_user = exclude.degrees() * n`` it reshapes to [nnz, n], aligned with ``exclude.indices``.

    Raises:
        TypeError, ValueError: arguments that do not fit. DataError: a user with draws to make who has seen everything.

    Source: Kweon et al., "Bidirectional Distillation for Top-K Recommender System" (WWW'21).
    """
    num_items = _check_tables(teacher, student, exclude)
    _check_options(direction, epsilon, epoch, rank_sign)
    ids = _check_users(users, exclude.num_users)
    offsets = _offsets(n_per_user, len(ids))
    rows = exclude.rows(ids.numpy())
    _check_allowed(ids, rows, offsets)
    table, shifted = weight_table(direction, epsilon, num_items)
    module = kernel("sample_rank_discrepancy", choose("sample_rank_discrepancy", backend, "cpu"))
    key = Seeds(seed).key(f"sample_rank_discrepancy/{direction}", epoch)
    host = [(u.detach().cpu(), v.detach().cpu()) for u, v in (teacher, student)]
    if len(ids) == 0 or offsets[-1] == 0:
        return torch.empty(0, dtype=torch.int64, device=users.device)
    drawn = module.sample_rank_discrepancy(*host, ids, offsets, *rows.to_torch(), table, shifted, rank_sign, key)
    return torch.from_numpy(drawn).to(users.device)


def weight_table(direction: Direction, epsilon: float, num_items: int) -> tuple[NDArray[np.float64], bool]:
    """Return the weight of every rank gap ``g = rank_sign (r_S - r_T)``, and how to look it up.

    ``teacher_to_student``: ``tanh(g epsilon)`` at ``max(g, 0)``. ``student_to_teacher``: ``exp(-g epsilon)`` at ``g``
    less the user's smallest gap (second result true), which scales his weights so that the largest is 1. Gaps are whole
    numbers below 2 N, so one table serves all users and both backends read the same bits.
    """
    if direction == "teacher_to_student":
        return np.tanh(np.arange(num_items) * epsilon), False
    return np.exp(np.arange(2 * num_items) * -epsilon), True


def _check_tables(teacher: tuple[Tensor, Tensor], student: tuple[Tensor, Tensor], exclude: Interactions) -> int:
    if not isinstance(exclude, Interactions):
        raise TypeError(f"exclude must be Interactions, got {type(exclude).__name__}")
    for name, (users, items) in (("teacher", teacher), ("student", student)):
        check_float(f"{name} users", users, "U D")
        check_float(f"{name} items", items, "N D")
        if users.shape[1] != items.shape[1]:
            raise ValueError(
                f"{name} users and items must have the same width, got {list(users.shape)} and {list(items.shape)}"
            )
        if (len(users), len(items)) != (exclude.num_users, exclude.num_items):
            raise ValueError(f"{name} has {len(users)} users and {len(items)} items, exclude is {exclude!r}")
    return exclude.num_items


def _check_options(direction: str, epsilon: float, epoch: int, rank_sign: int) -> None:
    if direction not in get_args(Direction):
        raise ValueError(f"direction must be one of {', '.join(get_args(Direction))}, got {direction!r}")
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)) or not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be a finite number above 0, got {epsilon!r}")
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise ValueError(f"epoch must be a whole number of at least 0, got {epoch!r}")
    if rank_sign not in (1, -1):
        raise ValueError(f"rank_sign must be 1 (the paper) or -1 (the notebooks), got {rank_sign!r}")


def _check_users(users: Tensor, num_users: int) -> Tensor:
    check_ids("users", users, "B")
    ids = users.detach().cpu().to(torch.int64).contiguous()
    wrong = ids[(ids < 0) | (ids >= num_users)]
    if len(wrong):
        raise ValueError(f"users holds {int(wrong[0])}, outside [0, {num_users})")
    return ids


def _offsets(n_per_user: int | Tensor, rows: int) -> NDArray[np.int64]:
    """Return Int64[B + 1], where each user's samples start."""
    counts = np.zeros(rows, dtype=np.int64)
    if isinstance(n_per_user, Tensor):
        check_ids("n_per_user", n_per_user, "B")
        if len(n_per_user) != rows:
            raise ValueError(f"n_per_user has {len(n_per_user)} rows for {rows} users")
        counts += n_per_user.detach().cpu().numpy()
    elif isinstance(n_per_user, bool) or not isinstance(n_per_user, int):
        raise TypeError(f"n_per_user must be a number or Int64[B], got {n_per_user!r}")
    else:
        counts += n_per_user
    if rows and counts.min() < 0:
        raise ValueError(f"n_per_user holds {counts.min()}; draws are not negative")
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


def _check_allowed(ids: Tensor, rows: Interactions, offsets: NDArray[np.int64]) -> None:
    full = np.flatnonzero((rows.degrees() == rows.num_items) & (np.diff(offsets) > 0))
    if len(full):
        raise DataError(
            f"user {int(ids[full[0]])} has seen all {rows.num_items} items, so none is left to draw "
            f"({len(full)} such user(s)); leave them out of users or give them 0 draws"
        )
