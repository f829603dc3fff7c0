"""Folders whose files are parts of a split: which file is which part, one log of all, and pairs in several parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core.errors import DataError, FastKDWarning
from fastkd.data.log import IdColumn, InteractionLog
from fastkd.data.splits import PARTS as ORDER
from fastkd.data.splits import column_split

NAMES = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_COMPRESSED = (".gz", ".bz2")


def find_parts(folder: Path, extensions: Iterable[str], *, any_extension: bool = False) -> dict[str, Path]:
    """Return part -> its file, in the order train, valid, test; two files of one part are refused.

    A file of another extension is no part. ``any_extension``: it is one where no other file is that part (the format
    was named).
    """
    known, listed = set(extensions), sorted(folder.iterdir())
    files: dict[str, Path] = {}
    for part in ORDER:
        named = [p for p in listed if NAMES.get(p.name.split(".")[0]) == part and p.is_file()]
        of_part = [p for p in named if extension(p) in known] or (named if any_extension else [])
        if len(of_part) > 1:
            raise DataError(
                f"{folder}: {len(of_part)} files are the part {part}: {', '.join(p.name for p in of_part)}; "
                "keep one, or join them in one file"
            )
        if of_part:
            files[part] = of_part[0]
    if "train" not in files:
        found = ", ".join(p.name for p in listed[:20]) or "nothing"
        raise DataError(
            f"{folder}: no train.* file (with optional valid.* and test.*) of a known format in the folder; "
            f"found: {found}. Known extensions: {', '.join(sorted(known))}"
        )
    return files


def extension(path: Path) -> str:
    """Return the last extension in lower case; one of compression does not count."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def join_parts(logs: Mapping[str, InteractionLog], source: str) -> InteractionLog:
    """Return the rows of all parts, one part after the other, labelled with their part.

    A rating, a time or a column's name stays where every part has it; the shape is the largest stated, where every
    part states one.
    """
    names = np.array(sorted(logs))
    codes = np.repeat([sorted(logs).index(part) for part in logs], [len(log) for log in logs.values()])
    parts = list(logs.values())
    shapes = [log.shape for log in parts if log.shape is not None]
    return InteractionLog(
        _join([log.users for log in parts]),
        _join([log.items for log in parts]),
        _stack([log.rating for log in parts]),
        _times(logs),
        IdColumn(codes.astype(np.int64), names),
        source,
        (max(s[0] for s in shapes), max(s[1] for s in shapes)) if len(shapes) == len(parts) else None,
        {role: name for role, name in parts[0].columns.items() if all(role in log.columns for log in parts)},
        parts[0].unread,
        any(log.dated for log in parts),
    )


def _times(logs: Mapping[str, InteractionLog]) -> NDArray[Any] | None:
    """Return the times of all parts; dates in one and plain numbers in another are refused."""
    times = [log.time for log in logs.values() if log.time is not None]
    if len(times) < len(logs):
        return None
    held = {part: log for part, log in logs.items() if log.time is not None and not np.isnan(log.time).all()}
    dated = [part for part, log in held.items() if log.dated]
    plain = [part for part in held if part not in dated]
    if dated and plain:
        raise DataError(
            f"{held[plain[0]].source} holds times as numbers, {held[dated[0]].source} as dates; write all alike, or "
            "read none with time_column=''"
        )
    return np.concatenate(times)


def _join(columns: list[IdColumn]) -> IdColumn:
    if all(column.names is None for column in columns):
        return IdColumn(np.concatenate([column.codes for column in columns]))
    return IdColumn.from_values(np.concatenate([column.values.astype(str) for column in columns]))


def _stack(columns: list[Any]) -> Any:
    return None if any(column is None for column in columns) else np.concatenate(columns)


def warn_of_discarded_parts(log: InteractionLog, split: str) -> None:
    """Say that a split that draws anew does not look at the parts that the source states."""
    if split == "column" or log.split is None:
        return
    found = set(log.split.take(np.unique(log.split.codes, return_index=True)[1]).values.tolist())
    parts = [*(part for part in ORDER if part in found), *sorted(found - {*ORDER, ""})]
    if len(parts) > 1:
        warnings.warn(
            f"{log.source} holds the parts {', '.join(parts)}; split={split!r} joins them and splits anew. "
            "split='column' (--set split=column, in a study data.split=column) keeps them",
            FastKDWarning,
            stacklevel=5,
        )


def warn_of_shared_pairs(log: InteractionLog, keep: str) -> None:
    """Say how many pairs of user and item are in more than one part, of which one row stays."""
    assert log.split is not None
    users, items = log.users.compact()[0], log.items.compact()[0]
    keys = users * (int(items.max()) + 1) + items
    parts, _ = column_split(log.split, source=log.source)
    within = {name: np.unique(keys[parts == code], return_index=True) for code, name in enumerate(ORDER)}
    shared = []
    for a, b in combinations(ORDER, 2):
        both, at, _ = np.intersect1d(within[a][0], within[b][0], assume_unique=True, return_indices=True)
        if len(both):
            first = np.flatnonzero(parts == ORDER.index(a))[within[a][1][at].min()]
            pair = log.take(np.array([first]))
            names = f"user {pair.user[0].item()!r} and item {pair.item[0].item()!r}"
            shared.append(f"{len(both)} pair(s) are in {a} and {b}, first: {names}")
    if shared:
        warnings.warn(
            f"{log.source}: {'; '.join(shared)}. One row of a pair stays, the {keep} (duplicates={keep!r})",
            FastKDWarning,
            stacklevel=7,
        )
