"""Several teachers as one: the states along one teacher's training, and teachers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastkd.core.errors import TeacherError
from fastkd.core.interactions import Interactions
from fastkd.models._tensors import content_hash
from fastkd.models.list_teacher import LONGER, ShortListsError
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import EmbeddingTeacher, Ids, TablesTeacher, Teacher, TopKLists
from fastkd.models.teacher_consensus import rank_consensus
from fastkd.models.teacher_files import read_tables

DEPTH = 100
"""Length of the lists that a group merges; an item behind it has no importance (Kang et al., WWW'23)."""


class StoredTeacher(TablesTeacher):
    """A teacher of vectors that stay in their file: read when asked for, and not kept."""

    def __init__(self, path: str | Path, *, num_users: int, num_items: int, device: str | torch.device = "cpu") -> None:
        self.path, self.device = Path(path), torch.device(device)
        self.num_users, self.num_items = num_users, num_items
        self.tables()  # a damaged file is better met now

    def tables(self) -> Tables:
        """Read and return the vectors."""
        tables = read_tables([self.path], num_users=self.num_users, num_items=self.num_items)
        return Tables(tables.users.to(self.device), tables.items.to(self.device))

    def at_hand(self) -> EmbeddingTeacher:
        """Return the teacher with its vectors in memory."""
        tables = self.tables()
        return EmbeddingTeacher(tables.users, tables.items)


class TeacherTrajectory(Teacher):
    """One teacher in the order of its training: ``checkpoints``, the finished one last.

    What asks for one teacher gets the finished one.
    """

    def __init__(self, checkpoints: Sequence[Teacher]) -> None:
        _check(checkpoints, "a trajectory", "checkpoint")
        self._checkpoints = tuple(checkpoints)
        self.num_users, self.num_items = checkpoints[0].num_users, checkpoints[0].num_items

    @property
    def checkpoints(self) -> tuple[Teacher, ...]:
        """Return the states, the finished one last."""
        return self._checkpoints

    def lists(
        self, k: int, exclude: Interactions | None, *, users: range | None = None, among: Ids | None = None
    ) -> TopKLists:
        """Return the finished state's lists."""
        return self._checkpoints[-1].lists(k, exclude, users=users, among=among)

    def tables(self) -> Tables:
        """Return the finished state's vectors."""
        return self._checkpoints[-1].tables()

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Return the finished state's scores."""
        return self._checkpoints[-1].scores(users, ids)

    @property
    def model(self) -> Recommender:
        """Return the finished state's model."""
        return self._checkpoints[-1].model

    def at_hand(self) -> Teacher:
        """Return the finished state, in memory."""
        return self._checkpoints[-1].at_hand()

    def fingerprint(self) -> str:
        """Return a hash of all states."""
        return _hash("trajectory", self._checkpoints)


class TeacherGroup(Teacher):
    """Teachers side by side, ``members``, each perhaps with a trajectory.

    A method for one teacher learns from their ensemble: :func:`~fastkd.models.rank_consensus` of their lists, of at
    least 100 items each. A group has no vectors and no model.
    """

    def __init__(self, members: Sequence[Teacher]) -> None:
        _check(members, "a group", "teacher")
        nested = [type(m).__name__ for m in members if len(m.members) > 1]
        if nested:
            raise TeacherError(f"a group holds single teachers, got a {nested[0]} inside")
        self._members = tuple(members)
        self.num_users, self.num_items = members[0].num_users, members[0].num_items

    @property
    def members(self) -> tuple[Teacher, ...]:
        """Return the teachers."""
        return self._members

    def lists(
        self, k: int, exclude: Interactions | None, *, users: range | None = None, among: Ids | None = None
    ) -> TopKLists:
        """Return the consensus of the members' lists; scores are its importances."""
        depth, lists = max(k, min(DEPTH, self.num_items)), []
        for at, member in enumerate(self._members):
            try:
                lists.append(member.lists(depth, exclude, users=users, among=among).ids)
            except ShortListsError as error:
                # What the member says of a shorter k would not help here.
                raise TeacherError(
                    f"teacher {at} of a group: {error.args[0]}; to rank {k} items a group reads {depth} of each "
                    f"teacher ({DEPTH} at least, if the catalogue has as many): {LONGER}"
                ) from error
        return rank_consensus([ids.to(lists[0].device) for ids in lists], k)

    def tables(self) -> Tables:
        """Refuse: there is no one pair of tables."""
        raise TeacherError(f"{self._what()} has ranked lists only; this method needs the vectors of one: {_REMEDY}")

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Refuse: each member has scores of its own."""
        raise TeacherError(f"{self._what()} has no scores of its own; ask its members, or {_REMEDY}")

    @property
    def model(self) -> Recommender:
        """Refuse: there is no one model."""
        raise TeacherError(f"{self._what()} is no live model; this method trains its teacher: {_REMEDY}")

    def at_hand(self) -> TeacherGroup:
        """Return the group of the members, in memory."""
        return TeacherGroup([member.at_hand() for member in self._members])

    def fingerprint(self) -> str:
        """Return a hash of all members."""
        return _hash("group", self._members)

    def _what(self) -> str:
        return f"a TeacherGroup of {len(self._members)} teachers"


_REMEDY = "give one teacher alone"


def _check(parts: Sequence[Teacher], whole: str, part: str) -> None:
    if not parts:
        raise TeacherError(f"{whole} needs at least one {part}, got none")
    shapes = [(p.num_users, p.num_items) for p in parts]
    for at, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise TeacherError(
                f"{part} {at} of {whole} covers {shape[0]} users x {shape[1]} items, "
                f"{part} 0 covers {shapes[0][0]} users x {shapes[0][1]} items"
            )


def _hash(kind: str, parts: Sequence[Teacher]) -> str:
    text = "/".join(p.fingerprint() for p in parts)
    return content_hash(kind, torch.tensor(list(text.encode()), dtype=torch.uint8))
