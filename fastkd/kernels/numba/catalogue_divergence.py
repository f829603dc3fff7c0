"""Divergence of a student's softmax over the whole catalogue from a teacher's, both from embeddings, on the CPU.

Shapes: B users, N items, D and E dimensions of student and teacher. Scores of both are made again tile by tile:
one sweep for the loss (two for Jensen-Shannon), one for both gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import compute_dtype, new
from fastkd.kernels.numba._catalogue_blocks import (
    ITEMS,
    USERS,
    item_range,
    run_units,
    scores_of,
    splits,
    tiles,
    user_blocks,
)
from fastkd.kernels.numba._catalogue_pair import KINDS, join_sums, pair_gaps, pair_sums, pair_weights
from fastkd.kernels.numba._catalogue_sweep import Exclusion, add_product
from fastkd.kernels.numba._combine import combine, combine_across
from fastkd.kernels.numba._product import Users
from fastkd.kernels.numba.catalogue_softmax import exclusion_of, rows_of

Floats = NDArray[Any]
Tables = tuple[Tensor, Tensor, Tensor, Tensor]


def catalogue_divergence(
    users: Tensor,
    items: Tensor,
    teacher_users: Tensor,
    teacher_items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    *,
    kind: str,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return (loss [B], statistics [6, B]).

    Statistics: largest score and log of the mass, of student and teacher; a centre and what it lost to rounding.

    The centre is what the gradient of a score is measured from: the student's mean of ``s - t`` for
    ``"reverse_kl"``, ``KL(p || m)`` for ``"jensen_shannon"``, else 0.
    """
    tables = _tables(users, items, teacher_users, teacher_items, scale)
    exclusion = exclusion_of(bounds, indices, len(users))
    sums = _sweep_sums(tables, exclusion, kind)
    loss, stats = new((len(users),), dtype=tables[0].dtype), new((6, len(users)), dtype=tables[0].dtype)
    empty = sums[2] == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        stats[:4] = sums[0], np.log(sums[2]), sums[1], np.log(sums[3])
        centre = sums[5] / sums[2] if kind == "reverse_kl" else np.zeros(len(users))
        stats[4] = centre
        stats[5] = centre - stats[4]
        value = _value(sums, kind)
    if kind == "jensen_shannon":
        to_student, to_teacher = _sweep_gaps(tables, exclusion, stats)
        stats[4], value = to_student, (to_student + to_teacher) / 2
    loss[:] = np.where(empty, 0, value)
    stats[:, empty] = 0
    return torch.from_numpy(loss), torch.from_numpy(stats)


def catalogue_divergence_backward(
    upstream: Tensor,
    users: Tensor,
    items: Tensor,
    teacher_users: Tensor,
    teacher_items: Tensor,
    bounds: Tensor | None,
    indices: Tensor | None,
    stats: Tensor,
    *,
    kind: str,
    scale: float,
    need_users: bool,
    need_items: bool,
) -> tuple[Tensor, Tensor]:
    """Return gradients of users [B, D] and items [N, D] in their dtypes; empty if not needed."""
    tables = _tables(users, items, teacher_users, teacher_items, scale)
    dtype = tables[0].dtype
    user_grad = new(users.shape if need_users else (0, 0), dtype=dtype)
    item_grad = new(items.shape if need_items else (0, 0), dtype=dtype)
    item_grad[:] = 0
    weight = upstream.detach().to(dtype).numpy()
    parts = splits(len(items), 8 * users.numel(), ITEMS)
    sums = np.zeros((parts, *users.shape) if need_users else (0, 0, 0))
    exclusion = exclusion_of(bounds, indices, len(users))
    _sweep_gradients(tables, exclusion, kind, (stats.numpy(), weight), sums, item_grad, parts)
    if need_users:
        user_grad[:] = scale * sums.sum(axis=0)
    return torch.from_numpy(user_grad).to(users.dtype), torch.from_numpy(item_grad).to(items.dtype)


def _value(sums: Floats, kind: str) -> Floats:
    mass_s, mass_t = np.log(sums[2]), np.log(sums[3])
    if kind == "reverse_kl":
        value: Floats = sums[4] / sums[2] - mass_s + mass_t
    else:
        value = sums[4] / sums[3] + mass_s - (0 if kind == "cross_entropy" else mass_t)
    return value


def _tables(users: Tensor, items: Tensor, teacher_users: Tensor, teacher_items: Tensor, scale: float) -> Tables:
    dtype = compute_dtype(users, items, teacher_users, teacher_items)
    teacher = rows_of(teacher_users, dtype, scale), rows_of(teacher_items, dtype)
    return rows_of(users, dtype, scale), rows_of(items, dtype), *teacher


def _blocks(tables: Tables) -> list[tuple[slice, Users, Users]]:
    """Return blocks of users, of student and teacher."""
    pairs = zip(user_blocks(tables[0]), user_blocks(tables[2]), strict=True)
    return [(rows, own, given) for (rows, own), (_, given) in pairs]


def _memory(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.empty(USERS * ITEMS, dtype=dtype), torch.empty(USERS * ITEMS, dtype=dtype)


def _sweep_sums(tables: Tables, exclusion: Exclusion, kind: str) -> Floats:
    """Return Float64[6, B], as :func:`pair_sums` makes it."""
    users, items, _, teacher_items = tables
    blocks, parts = _blocks(tables), splits(len(items), 48 * len(users), ITEMS)
    sums = np.zeros((parts, 6, len(users)))
    sums[:, :2] = -np.inf

    def unit(index: int) -> None:
        at, (rows, own, given) = index // len(blocks), blocks[index % len(blocks)]
        memory, part = _memory(users.dtype), np.ascontiguousarray(sums[at, :, rows])
        for first, last in tiles(*item_range(at, parts, len(items), ITEMS), ITEMS):
            student = scores_of(own, items[first:last], memory[0])
            teacher = scores_of(given, teacher_items[first:last], memory[1])
            pair_sums(student.numpy(), teacher.numpy(), exclusion[0][rows], exclusion[1], first,
                      KINDS[kind], part)  # fmt: skip
        sums[at, :, rows] = part

    run_units(unit, parts * len(blocks))
    total: Floats = sums[0]
    for more in sums[1:]:
        join_sums(total, more, KINDS[kind])
    return total


def _sweep_gaps(tables: Tables, exclusion: Exclusion, stats: Floats) -> Floats:
    """Return ``KL(p || m)`` and ``KL(q || m)``, Float64[2, B]."""
    users, items, _, teacher_items = tables
    blocks, parts = _blocks(tables), splits(len(items), 16 * len(users), ITEMS)
    gaps = np.zeros((parts, 2, len(users)))

    def unit(index: int) -> None:
        at, (rows, own, given) = index // len(blocks), blocks[index % len(blocks)]
        memory, part = _memory(users.dtype), np.zeros((2, rows.stop - rows.start))
        for first, last in tiles(*item_range(at, parts, len(items), ITEMS), ITEMS):
            student = scores_of(own, items[first:last], memory[0])
            teacher = scores_of(given, teacher_items[first:last], memory[1])
            pair_gaps(student.numpy(), teacher.numpy(), exclusion[0][rows], exclusion[1], first,
                      stats[:, rows], part)  # fmt: skip
        gaps[at, :, rows] = part

    run_units(unit, parts * len(blocks))
    total: Floats = gaps.sum(axis=0)
    return total


def _sweep_gradients(
    tables: Tables, exclusion: Exclusion, kind: str, constants: tuple[Floats, Floats],
    user_sums: Floats, item_grad: Floats, parts: int,
) -> None:  # fmt: skip
    """Add a range's items to its own sum of user gradients, and all users to its rows of the item gradient."""
    users, items, _, teacher_items = tables
    blocks = _blocks(tables)
    stats, weight = constants
    gradient = torch.from_numpy(item_grad)
    ones = np.ones(USERS, dtype=stats.dtype)

    def unit(part: int) -> None:
        memory = _memory(users.dtype)
        product = torch.empty(USERS, users.shape[1], dtype=users.dtype)
        for first, last in tiles(*item_range(part, parts, len(items), ITEMS), ITEMS):
            for rows, own, given in blocks:
                student = scores_of(own, items[first:last], memory[0])
                teacher = scores_of(given, teacher_items[first:last], memory[1])
                pair_weights(student.numpy(), teacher.numpy(), exclusion[0][rows], exclusion[1], first,
                             KINDS[kind], stats[:, rows], weight[rows])  # fmt: skip
                if len(gradient):
                    combine_across(student, users, rows.start, gradient[first:last])
                if len(user_sums):
                    sums = product[: len(student)]
                    combine(student, items, first, sums)
                    add_product(user_sums[part, rows], sums.numpy(), ones)

    run_units(unit, parts)
