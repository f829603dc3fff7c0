"""A teacher is anything that ranks: a live model, a pair of vector tables, or a file of top-K lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import TeacherError
from fastkd.core.interactions import Interactions
from fastkd.models._tensors import Values, as_tensor, check_tables, content_hash
from fastkd.models.pairs import PairTables
from fastkd.models.protocol import Recommender, Tables

Ids = NDArray[np.int64]

USER_CHUNK = 8192
"""Users ranked at a time: bounds the vectors and exclusions gathered for one sweep."""


@dataclass(frozen=True)
class TopKLists:
    """Ranked lists: ``ids`` Int64[U, K], best first, -1 padding at the end; ``known_scores`` Float32[U, K], or None.

    Padding scores are -inf. Both tensors are on the CPU, or on the device of the teacher's vectors.
    """

    ids: Tensor
    known_scores: Tensor | None

    @property
    def scores(self) -> Tensor:
        """Return the scores; lists without any raise ``TeacherError``."""
        if self.known_scores is None:
            raise TeacherError(
                "the teacher's lists have no scores, which this needs: give lists with scores, vectors or a model"
            )
        return self.known_scores


class Teacher(ABC):
    """A frozen source of rankings over the students' users and items."""

    num_users: int
    num_items: int

    @abstractmethod
    def lists(
        self, k: int, exclude: Interactions | None, *, users: range | None = None, among: Ids | None = None
    ) -> TopKLists:
        """Return each user's best ``k`` items outside ``exclude``; rows short of items are padded.

        ``users``: rows to return, None for all. ``among``: ascending ids of the items that compete, None for all.
        """

    @property
    def members(self) -> tuple[Teacher, ...]:
        """Return the teachers this one is made of: itself, but for a group."""
        return (self,)

    @property
    def checkpoints(self) -> tuple[Teacher, ...]:
        """Return its states along its training, the finished one last: itself, but for a trajectory."""
        return (self,)

    def tables(self) -> Tables:
        """Return the frozen vectors; a teacher of lists has none and raises ``TeacherError``."""
        raise TeacherError(
            f"{type(self).__name__} holds ranked lists only; this method needs teacher vectors: "
            "give a model or a pair of embedding files"
        )

    @property
    def model(self) -> Recommender:
        """Return the live model; other teachers have none and raise ``TeacherError``."""
        raise TeacherError(
            f"{type(self).__name__} is no live model; this method trains its teacher: give a ModelTeacher"
        )

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Return the scores Float[B, C] of listed items Int[B, C] for ``users`` Int64[B]; -inf where an id is -1.

        On the device of the teacher's vectors. What a teacher of lists does not list has the score of the last item
        it lists for the user: no more is known than that it is not above it.
        """
        raise TeacherError(f"{type(self).__name__} ranks, but gives no scores of chosen items, which this needs")

    def at_hand(self) -> Teacher:
        """Return the same teacher for a sweep over blocks of users: one kept in a file is read, once."""
        return self

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of what the teacher knows, for caches."""


class TablesTeacher(Teacher):
    """A teacher that ranks by the inner product of its vectors; subclasses provide :meth:`tables`."""

    _fingerprint: str | None = None

    @abstractmethod
    def tables(self) -> Tables:
        """Return the frozen vectors."""

    def lists(
        self, k: int, exclude: Interactions | None, *, users: range | None = None, among: Ids | None = None
    ) -> TopKLists:
        """Return each user's best ``k`` items outside ``exclude`` by exact ranking of the catalogue, or of ``among``.

        One :func:`fastkd.ops.rank_topk` per 8192 users. A user with fewer than ``k`` items left gets all
        of them, then padding.
        """
        check_k(k)
        check_exclude(self, exclude)
        rows = check_rows(self, users)
        tables = self.tables()
        ids = torch.full((len(rows), k), -1, dtype=torch.int64, device=tables.device)
        scores = torch.full((len(rows), k), -torch.inf, device=tables.device)
        # Ascending ids keep the order of ties.
        kept = None if among is None else torch.from_numpy(check_among(self, among)).to(tables.device)
        width = min(k, tables.num_items if kept is None else len(kept))
        if width == 0:
            return TopKLists(ids, scores)
        for start in range(0, len(rows), USER_CHUNK):
            block = rows[start : start + USER_CHUNK]
            out = slice(start, start + len(block))
            seen = None if exclude is None else exclude.rows(np.arange(block.start, block.stop))
            if seen is not None and among is not None:
                seen = columns(seen, among)
            asked = torch.arange(block.start, block.stop, device=tables.device)
            best = tables.topk(asked, width, exclude=seen, among=kept)
            ids[out, :width] = best.ids if kept is None else original(best.ids, kept)
            scores[out, :width] = best.scores
        return TopKLists(ids, scores)

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Return inner products, or what the model's network gives, chunk by chunk."""
        tables = self.tables()
        rows = tables.rows_at_once(ids.shape[1]) if isinstance(tables, PairTables) else USER_CHUNK
        parts = [torch.empty(0, ids.shape[1], device=tables.device)]
        for start in range(0, len(users), rows):
            block = slice(start, start + rows)
            parts.append(tables.scores(users[block].to(tables.device), ids[block].to(tables.device)))
        return torch.cat(parts)

    def fingerprint(self) -> str:
        """Return a hash of both tables: a model and its exported vectors agree."""
        if self._fingerprint is None:
            tables = self.tables()
            self._fingerprint = content_hash("tables", tables.users, tables.items)
        return self._fingerprint


class ModelTeacher(TablesTeacher):
    """A live model, read in eval mode and outside autograd whatever mode its owner puts it in.

    Vectors are computed on first use and kept. Parameters that change afterwards would silently turn one
    teacher into two: that is refused.
    """

    def __init__(self, model: Recommender) -> None:
        if not isinstance(model, Recommender):
            raise TeacherError(f"a ModelTeacher needs a Recommender, got {type(model).__name__}")
        self._model = model
        self._tables: Tables | None = None
        self._versions: tuple[int, ...] = ()
        self.num_users, self.num_items = model.num_users, model.num_items

    @property
    def model(self) -> Recommender:
        """Return the model itself."""
        return self._model

    def tables(self) -> Tables:
        """Return the model's vectors as they were on first use."""
        versions = tuple(p._version for p in self._model.parameters())
        if self._tables is None:
            tables = self._model.frozen_tables()
            if isinstance(tables, PairTables):
                _check_parameters(self._model)
            else:
                check_tables(tables.users, tables.items, "the teacher model")
            self._tables, self._versions = tables, versions
        elif versions != self._versions:
            raise TeacherError(
                f"the parameters of the teacher {type(self._model).__name__} changed after it was first read; "
                "train a copy, or make a new ModelTeacher"
            )
        return self._tables

    def fingerprint(self) -> str:
        """Return a hash of both tables, or of all parameters where the model scores pairs."""
        if self._fingerprint is None and isinstance(self.tables(), PairTables):
            state = self._model.state_dict()
            kind = "/".join(["pairs", type(self._model).__qualname__, *state, str(dict(self._model.options()))])
            self._fingerprint = content_hash(kind, *state.values())
        return super().fingerprint()


class EmbeddingTeacher(TablesTeacher):
    """A teacher given by its vectors: ``users`` Float[U, D] and ``items`` Float[N, D], kept as float32.

    Tensors or numpy arrays; row i is the data's user or item i.
    """

    def __init__(self, users: Values, items: Values) -> None:
        users, items = as_tensor(users, "the teacher: users"), as_tensor(items, "the teacher: items")
        check_tables(users, items, "the teacher")
        self._tables = Tables(users.detach().float().contiguous(), items.detach().float().contiguous())
        self.num_users, self.num_items = len(users), len(items)

    def tables(self) -> Tables:
        """Return the given vectors."""
        return self._tables


def check_k(k: int) -> None:
    """Refuse a list length below 1."""
    if k < 1:
        raise TeacherError(f"a list needs at least 1 item, got k={k}")


def check_exclude(teacher: Teacher, exclude: Interactions | None) -> None:
    """Refuse exclusions of another shape than the teacher's."""
    if exclude is not None and (exclude.num_users, exclude.num_items) != (teacher.num_users, teacher.num_items):
        raise TeacherError(
            f"the teacher ranks {teacher.num_users} users x {teacher.num_items} items, but exclude is {exclude!r}"
        )


def check_rows(teacher: Teacher, users: range | None) -> range:
    """Return ``users``, or all; refuse a range that is no stretch of the teacher's users."""
    rows = range(teacher.num_users) if users is None else users
    if rows.step != 1 or (len(rows) and not (rows.start >= 0 and rows.stop <= teacher.num_users)):
        raise TeacherError(f"users must be a stretch of range({teacher.num_users}), got {rows}")
    return rows


def check_among(teacher: Teacher, among: Ids) -> Ids:
    """Refuse item ids that are not ascending ids of the teacher's catalogue."""
    ids = np.asarray(among, dtype=np.int64)
    inside = len(ids) == 0 or (ids[0] >= 0 and ids[-1] < teacher.num_items)
    if ids.ndim != 1 or not inside or (np.diff(ids) <= 0).any():
        raise TeacherError(f"among must be ascending item ids in [0, {teacher.num_items}), each once")
    return ids


def columns(seen: Interactions, among: Ids) -> Interactions:
    """Return the interactions with the items ``among`` (ascending), which become items 0, 1, ..."""
    at = np.searchsorted(among, seen.indices)
    inside = at < len(among)
    inside[inside] = among[at[inside]] == seen.indices[inside]
    kept = np.concatenate([[0], np.cumsum(inside)])
    return Interactions.from_csr(kept[seen.indptr], at[inside], len(among))


def original(ids: Tensor, kept: Tensor) -> Tensor:
    """Return the catalogue's ids of ids among ``kept``; padding stays."""
    return kept[ids.clamp(min=0)].masked_fill(ids < 0, -1)


def _check_parameters(model: Recommender) -> None:
    """Refuse a model with parameters that are not finite."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise TeacherError(f"the teacher model: parameter {name} holds NaN or infinity; all values must be finite")
