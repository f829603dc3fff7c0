"""A teacher that is a file of ranked lists: whatever framework made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastkd.core.errors import ConfigError, TeacherError
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import IdMap
from fastkd.models._tensors import Values, as_tensor, content_hash
from fastkd.models.teacher import (
    USER_CHUNK,
    Ids,
    Teacher,
    TopKLists,
    check_among,
    check_exclude,
    check_k,
    check_rows,
    columns,
)

Short = Literal["refuse", "pad"]


@dataclass(frozen=True)
class Names:
    """What messages call users and items: their original ids where those are known, else their rows."""

    users: IdMap | None = None
    items: IdMap | None = None

    def user(self, row: int) -> str:
        """Return ``user`` and what this one is called."""
        return f"user {_called(self.users, row)}"

    def item(self, row: int) -> str:
        """Return ``item`` and what this one is called."""
        return f"item {_called(self.items, row)}"


class ShortListsError(TeacherError):
    """Lists that end too early; its arguments are the problem and what to do."""

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class ListTeacher(Teacher):
    """Ranked lists ``ids`` Int[U, K], best first, -1 padding at the end, with ``scores`` Float[U, K] or None.

    Tensors or numpy arrays. Without scores it teaches the methods that read the order alone; others get a
    ``TeacherError``. ``short``: what to do with a user who has fewer items than are asked for although the catalogue
    holds more (a short or missing list): ``"refuse"`` or ``"pad"``. ``names``: of users and items, for messages.
    """

    def __init__(
        self,
        ids: Values,
        scores: Values | None,
        num_items: int,
        *,
        short: Short = "refuse",
        names: Names | None = None,
    ) -> None:
        if short not in ("refuse", "pad"):
            raise ConfigError(f"short={short!r} is not allowed. One of: refuse, pad")
        ids = as_tensor(ids, "list ids")
        given = None if scores is None else as_tensor(scores, "list scores")
        _check_shapes(ids, given)
        self._ids = ids.detach().cpu().to(torch.int64)
        padding = self._ids == -1
        self._scores = None
        if given is not None:
            self._scores = given.detach().cpu().to(torch.float32).masked_fill(padding, -torch.inf)
        self.short, self._names = short, names or Names()
        self.num_users, self.num_items = len(ids), int(num_items)
        _check_ids(self._ids, self.num_items, self._names)
        if self._scores is not None:
            _check_scores(self._scores, padding, self._names)
        if short == "refuse":
            _check_missing(padding, self._names)

    def lists(
        self, k: int, exclude: Interactions | None, *, users: range | None = None, among: Ids | None = None
    ) -> TopKLists:
        """Return the best ``k`` listed items of each user outside ``exclude``, in list order.

        Raises ``TeacherError`` where a list runs out before the catalogue (or ``among``) does, unless ``short="pad"``.
        """
        check_k(k)
        check_exclude(self, exclude)
        rows = check_rows(self, users)
        ids = self._ids[rows.start : rows.stop]
        seen = exclude if exclude is None or users is None else exclude.rows(np.arange(rows.start, rows.stop))
        keep = ids >= 0
        if among is not None:
            competes = torch.zeros(self.num_items, dtype=torch.bool)
            competes[torch.from_numpy(check_among(self, among))] = True
            keep &= competes[ids.clamp(min=0)]
        if seen is not None:
            keep &= ~_seen(ids, seen)
        if self.short == "refuse":
            self._check_enough(keep.sum(1), k, seen, among, rows.start)
        # A stable sort of the flags moves kept entries to the front in list order.
        order = torch.argsort(keep.to(torch.int8), dim=1, descending=True, stable=True)[:, :k]
        kept = keep.gather(1, order)
        missing = (0, max(k - ids.shape[1], 0))
        ids = torch.nn.functional.pad(ids.gather(1, order).masked_fill(~kept, -1), missing, value=-1)
        if self._scores is None:
            return TopKLists(ids, None)
        scores = self._scores[rows.start : rows.stop].gather(1, order).masked_fill(~kept, -torch.inf)
        return TopKLists(ids, torch.nn.functional.pad(scores, missing, value=-torch.inf))

    def scores(self, users: Tensor, ids: Tensor) -> Tensor:
        """Return the listed scores; an item that is not listed has that of the user's last listed one, or 0."""
        table = TopKLists(self._ids, self._scores).scores  # refuses lists without
        parts = [torch.empty(0, ids.shape[1])]
        for start in range(0, len(users), USER_CHUNK):
            rows, wanted = users[start : start + USER_CHUNK].cpu(), ids[start : start + USER_CHUNK].cpu().long()
            listed, order = self._ids[rows].sort(1)
            scores = table[rows]
            count = (listed >= 0).sum(1, keepdim=True)
            last = scores.gather(1, (count - 1).clamp(min=0)).masked_fill(count == 0, 0)
            at = torch.searchsorted(listed, wanted.contiguous()).clamp(max=listed.shape[1] - 1)
            found = torch.where(listed.gather(1, at) == wanted, scores.gather(1, order.gather(1, at)), last)
            parts.append(found.masked_fill(wanted < 0, -torch.inf))
        return torch.cat(parts)

    def fingerprint(self) -> str:
        """Return a hash of ids, scores and catalogue size."""
        tables = (self._ids,) if self._scores is None else (self._ids, self._scores)
        return content_hash(f"lists/{self.num_items}", *tables)

    def _check_enough(
        self, available: Tensor, k: int, seen: Interactions | None, among: Ids | None, first: int
    ) -> None:
        left = torch.full(available.shape, self.num_items if among is None else len(among))
        if seen is not None:
            left -= torch.from_numpy((seen if among is None else columns(seen, among)).degrees())
        short = (available < left.clamp(max=k)).nonzero().flatten()
        if len(short):
            worst = int(available[short].min())
            user = first + int(short[available[short].argmin()])
            remedy = f"ask for at most {worst} (every user has as many), " if worst > 0 else ""
            raise ShortListsError(
                f"{len(short)} user(s) have fewer than {k} listed items outside the excluded ones, the shortest: "
                f"{self._names.user(user)} with {worst}",
                f"{remedy}{LONGER}",
            )


def _seen(ids: Tensor, exclude: Interactions) -> Tensor:
    seen = torch.empty(ids.shape, dtype=torch.bool)
    for start in range(0, len(ids), USER_CHUNK):
        block = ids[start : start + USER_CHUNK]
        users = np.repeat(np.arange(start, start + len(block)), ids.shape[1])
        # -1 is asked for as item 0: such entries are padding already, their answer is not used.
        items = block.clamp(min=0).numpy().reshape(-1)
        seen[start : start + len(block)] = torch.from_numpy(exclude.contains(users, items).reshape(block.shape))
    return seen


_PAD = "allow padding with short='pad' (a key of lists in teacher.yaml)"
LONGER = f"export longer lists, or {_PAD}"
"""What to do about lists that end too early."""


def _called(ids: IdMap | None, row: int) -> str:
    return str(row) if ids is None else repr(ids.originals[row].item())


def _check_shapes(ids: Tensor, scores: Tensor | None) -> None:
    if ids.ndim != 2 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise TeacherError(f"list ids must be an integer matrix [users, K], got {ids.dtype} {list(ids.shape)}")
    if scores is not None and (scores.shape != ids.shape or not scores.is_floating_point()):
        raise TeacherError(
            f"list scores must be floating of the ids' shape {list(ids.shape)}, got {scores.dtype} {list(scores.shape)}"
        )


def _check_ids(ids: Tensor, num_items: int, names: Names) -> None:
    _refuse((ids < -1) | (ids >= num_items), ids, f"is outside the catalogue [0, {num_items})", names)
    padding = ids == -1
    _refuse(padding[:, :-1] & ~padding[:, 1:], ids, "is padding before the end of the list", names)
    ordered, positions = ids.sort(dim=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bool(twice.any()):
        row, column = (int(v) for v in twice.nonzero()[0])
        ranks = sorted(int(p) + 1 for p in positions[row, column : column + 2])
        item = names.item(int(ordered[row, column]))
        raise TeacherError(f"{names.user(row)} lists {item} twice, at ranks {ranks}")


def _check_scores(scores: Tensor, padding: Tensor, names: Names) -> None:
    _refuse(~padding & ~torch.isfinite(scores), scores, "is no finite score", names)
    rising = (scores[:, 1:] > scores[:, :-1]) & ~padding[:, 1:]
    _refuse(rising, scores, "is a score below its successor's", names)


def _refuse(bad: Tensor, values: Tensor, problem: str, names: Names) -> None:
    if bool(bad.any()):
        row, column = (int(v) for v in bad.nonzero()[0])
        raise TeacherError(f"{names.user(row)}, rank {column + 1}: {values[row, column].item()} {problem}")


def _check_missing(padding: Tensor, names: Names) -> None:
    missing = padding.all(dim=1).nonzero().flatten()
    if len(missing):
        raise TeacherError(
            f"{len(missing)} user(s) have no list, first: {names.user(int(missing[0]))}; add their lists, or {_PAD}"
        )
