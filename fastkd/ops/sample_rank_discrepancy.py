"""Items that one model ranks far above another, drawn at random: the samples of Bidirectional Distillation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.kernels._discrepancy import rule
from fastkd.kernels.reference import sample_rank_discrepancy as reference
from fastkd.kernels.reference._ranking import excluded_items
from fastkd.ops._checks import check_seed
from fastkd.ops._discrepancy_checks import (
    Direction,
    Side,
    check_counters,
    check_left,
    check_options,
    check_sides,
    check_users,
    offsets_of,
    plain,
)
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch

Model = tuple[Tensor, Tensor | None]

_FINISH_CELLS = 1 << 24
"""Ranks of all items held at a time for users whose proposals did not suffice on a GPU."""


def sample_rank_discrepancy(
    teacher: Side,
    student: Side,
    n_per_user: int | Tensor,
    *,
    users: Tensor | None = None,
    counters: Tensor | None = None,
    direction: Direction,
    epsilon: float,
    exclude: Interactions,
    seed: int,
    epoch: int,
    replacement: bool = True,
    rank_sign: Literal[1, -1] = 1,
    complete: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Return items drawn by how differently teacher and student rank them.

    Over the items O_u that user u has not seen, ``r`` = 1 for the best (order of :func:`fastkd.ops.rank_topk`):

    - ``teacher_to_student``: ``w_j = tanh(max((r_S(j) - r_T(j)) epsilon, 0))``, what the student ranks too low;
      uniform over O_u where all weights are 0.
    - ``student_to_teacher``: ``w_j = exp((r_T(j) - r_S(j)) epsilon)``.

    A side may be ranked lists of M places. An item's rank is then its place, and outside the list M + 1, for all items
    alike: no better than the last place, in no order. What this means:

    - teacher's lists: the teacher prefers what it lists and is indifferent to the rest. ``teacher_to_student`` draws
      listed items that the student ranks lower, but also unlisted ones that it ranks below M + 1;
      ``student_to_teacher`` favours the student's best unlisted items, by ``exp((M + 1 - r_S) epsilon)``.
    - student's lists: what the student does not list is M + 1, so ``teacher_to_student`` draws from the teacher's best
      M items alone, and ``student_to_teacher`` never takes an unlisted item for better than M + 1.
    - lists on both sides: items in neither have gap 0, so ``teacher_to_student`` draws from the teacher's list alone.

    Weights are whole multiples of ``2**-b`` of the largest, ``b = 62 - bit_length(N - 1)`` (42 at a million items), so
    the distribution is the formula's to within ``N 2**-b`` in total variation. Proposals are drawn uniformly and
    accepted by their weight; only they are ranked. Where too few are accepted, or ``epsilon (N - 1) > 3`` in the
    exponential form, all items of the user are ranked and his draws made by inversion. The stream, which is the same
    either way, is stated in ``fastkd/kernels/reference/sample_rank_discrepancy.py``; its key is
    ``Seeds(seed).key("sample_rank_discrepancy/" + direction, epoch)``. A draw depends on (seed, epoch, user, slot)
    alone: not on the batch, threads or backend, nor on how many others are drawn.

    Args:
        teacher: (Float[U, D], Float[N, D]), tables whose inner products are the scores; or ranked lists: ``TopKLists``,
            what ``rank_topk`` returns, or their ids Int64[U, M], best first, -1 where a list ends early. Make lists
            with the same ``exclude``: a seen item in one keeps its place. Of an item listed twice the first place
            counts; places from N on do not.
        student: likewise; its D or M may differ.
        n_per_user: draws per user, a number or Int64[B].
        users: Int64[B], rows of the user tables and of ``exclude``, also the random counter; None: all in order.
        counters: Int64[B], the random counters where tables, lists and ``exclude`` hold the rows of some users alone:
            the draws are those of the whole tables with ``users=counters``. Not beside ``users``.
        direction: who teaches.
        epsilon: per rank, above 0. A value c published as ``epsilon times N`` is ``epsilon=c / N``.
        exclude: seen items of all U users; never drawn. Before ``torch.compile``, call ``exclude.to_torch(device)``
            once.
        seed: root seed of the draw.
        epoch: epoch of the draw.
        replacement: False: the items of a user are distinct, drawn one after the other from what is left.
        rank_sign: -1 swaps the ranks' roles, as the authors' notebooks do (they rank in ascending order).
        complete: on a GPU, False never waits for the device and leaves -1 where the first pool of proposals was not
            enough; True looks, and ranks all items of those users, 2**24 ranks at a time. Other backends are
            always complete. The other waits are for sizes that the host must know: ``users`` (how many items these
            have seen) and ``n_per_user`` as a tensor. With neither, False can be captured in a CUDA graph.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns:
        Int64[B, n] for a number n; Int64[sum of n_per_user] in the order of ``users`` for a tensor. With all users and
        ``n_per_user = exclude.degrees() * n`` it reshapes to [nnz, n], aligned with ``exclude.indices``. Memory beyond
        the tables: the proposals looked at, or O(N) per thread for users drawn by inversion.

    Raises:
        TypeError, ValueError: arguments that do not fit. DataError: a user with too few items left for his draws.

    Source: Kweon et al., "Bidirectional Distillation for Top-K Recommender System" (WWW'21).
    """
    teacher, student = plain(teacher), plain(student)
    check_sides(teacher, student, exclude)
    check_options(direction, epsilon, epoch, rank_sign)
    check_seed(seed)
    device = (teacher if isinstance(teacher, Tensor) else teacher[0]).device
    ids = check_users(users, exclude.num_users, device)
    counted = ids if counters is None else check_counters(counters, users, exclude.num_users, device)
    offsets, total, most = offsets_of(n_per_user, len(ids), device)
    if not torch.compiler.is_compiling():
        check_left(ids, exclude, offsets, most, replacement)
    chosen = choose("sample_rank_discrepancy", backend, ids.device.type)
    drawn: Tensor = _native(
        *_model(teacher, exclude), *_model(student, exclude), counted, users is not None, offsets, total, most,
        *exclude.to_torch(ids.device), exclude.num_items, direction, epsilon, rank_sign, replacement, complete, seed,
        epoch, chosen,
    )  # fmt: skip
    return drawn if isinstance(n_per_user, Tensor) else drawn.view(len(ids), n_per_user)


def _model(side: tuple[Tensor, Tensor] | Tensor, exclude: Interactions) -> Model:
    """Return tables as they are, lists beside None; a list's N-th place and those after it say nothing new."""
    if isinstance(side, Tensor):
        return side.detach()[:, : max(exclude.num_items - 1, 0)].to(torch.int64).contiguous(), None
    return side[0].detach(), side[1].detach()


def _launch(
    teacher_users: Tensor, teacher_items: Tensor | None, student_users: Tensor, student_items: Tensor | None,
    ids: Tensor, chosen: bool, offsets: Tensor, total: int, most: int, indptr: Tensor, indices: Tensor,
    num_items: int, direction: str, epsilon: float, sign: int, replacement: bool, complete: bool, seed: int,
    epoch: int, backend: str,
) -> Tensor:  # fmt: skip
    how = rule(
        direction, epsilon, num_items, ids.device, sign, replacement,
        Seeds(seed).key(f"sample_rank_discrepancy/{direction}", epoch),
    )  # fmt: skip
    if total == 0:
        return torch.empty(0, dtype=torch.int64, device=ids.device)
    if chosen:
        teacher_users, student_users = teacher_users[ids], student_users[ids]
        indptr, indices = _rows(indptr, indices, ids)
    models = (teacher_users, teacher_items), (student_users, student_items)
    if backend == "reference":
        return reference.sample_rank_discrepancy(*models, ids, offsets, total, indptr, indices, num_items, how)
    launcher = launch("sample_rank_discrepancy", backend, ids.device)
    samples: Tensor = launcher(*models, ids, offsets, total, most, indptr, indices, num_items, how)
    if backend == "triton" and complete:
        _finish(samples, models, ids, offsets, indptr, indices, num_items, how)
    return samples


def _finish(
    samples: Tensor, models: tuple[Model, Model], ids: Tensor, offsets: Tensor, indptr: Tensor, indices: Tensor,
    num_items: int, how: Any,
) -> None:  # fmt: skip
    """Draw the users that hold -1 from the ranks of all items, many users at a time."""
    owner = torch.repeat_interleave(torch.arange(len(ids), device=ids.device), offsets.diff())
    unfinished: Tensor = owner[samples < 0].unique()  # type: ignore[no-untyped-call]
    finish = launch("sample_rank_discrepancy", "triton", ids.device, "finish")
    step = max(1, _FINISH_CELLS // num_items)
    for start in range(0, len(unfinished), step):
        rows = unfinished[start : start + step]
        excluded = excluded_items(*_rows(indptr, indices, rows), slice(0, len(rows)), num_items)
        first, second = ((users[rows], items) for users, items in models)
        finish(samples, reference.rank_gaps(first, second, excluded, how), ids, offsets, rows, how)


def _rows(indptr: Tensor, indices: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the CSR of the given rows."""
    starts, lengths = indptr[rows], indptr.diff()[rows]
    ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    shift = torch.repeat_interleave(starts - ends[:-1], lengths)
    return ends, indices[torch.arange(len(shift), device=shift.device) + shift]


def _fake(
    teacher_users: Tensor, teacher_items: Tensor | None, student_users: Tensor, student_items: Tensor | None,
    ids: Tensor, chosen: bool, offsets: Tensor, total: int, *_: Any,
) -> Tensor:  # fmt: skip
    return ids.new_empty(total)


_native = define(
    "sample_rank_discrepancy(Tensor teacher_users, Tensor? teacher_items, Tensor student_users, Tensor? student_items,"
    " Tensor ids, bool chosen, Tensor offsets, SymInt total, SymInt most, Tensor indptr, Tensor indices, int num_items,"
    " str direction, float epsilon, int sign, bool replacement, bool complete, int seed, int epoch, str backend)"
    " -> Tensor",
    implementation=_launch,
    fake=_fake,
)
