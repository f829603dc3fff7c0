"""Teachers from files: vectors (.safetensors, two .npy) and ranked lists (.parquet). Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastkd.core.errors import TeacherError
from fastkd.core.files import atomic_path
from fastkd.models.list_teacher import ListTeacher, Short
from fastkd.models.protocol import Tables
from fastkd.models.teacher import EmbeddingTeacher, Teacher, TopKLists, check_tables

LIST_COLUMNS = ("user", "item", "rank", "score")
"""Columns of a list file: 0-based ids, rank from 1 (best), score not rising with rank."""


def load_teacher(
    source: str | Path | Sequence[str | Path], *, num_users: int, num_items: int, short: Short = "refuse"
) -> Teacher:
    """Read a teacher of ``num_users`` x ``num_items`` from one file or a pair.

    ``source``: a ``.safetensors`` file with matrices ``users`` [U, D] and ``items`` [N, D]; a pair of ``.npy``
    files (users, items); or a ``.parquet`` file with one row per list entry and the columns user, item, rank,
    score. ``short`` is for lists, see :class:`ListTeacher`.

    Raises ``TeacherError`` that names the file and what in it does not fit.
    """
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(p) for p in source]
    if [path.suffix.lower() for path in paths] == [".parquet"]:
        _check_present(paths)
        return _lists(paths[0], num_users, num_items, short)
    tables = read_tables(paths, num_users=num_users, num_items=num_items)
    return EmbeddingTeacher(tables.users, tables.items)


def read_tables(paths: Sequence[Path], *, num_users: int, num_items: int) -> Tables:
    """Read vectors from one ``.safetensors`` or two ``.npy`` files, checked as :func:`load_teacher` says."""
    _check_present(paths)
    kinds = [path.suffix.lower() for path in paths]
    if kinds == [".safetensors"]:
        users, items = _safetensors(paths[0])
    elif kinds == [".npy", ".npy"]:
        users, items = _npy(paths[0]), _npy(paths[1])
    else:
        raise TeacherError(
            f"cannot read a teacher from {', '.join(map(str, paths)) or 'no file'}: "
            "give one .safetensors (users, items), two .npy (users, then items) "
            "or one .parquet (user, item, rank, score)"
        )
    origin = " and ".join(map(str, paths))
    check_tables(users, items, origin)
    _check_counts(origin, len(users), len(items), num_users, num_items)
    return Tables(users.float().contiguous(), items.float().contiguous())


def _check_present(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise TeacherError(f"teacher file {path} does not exist")


def save_tables(path: str | Path, tables: Tables) -> None:
    """Write vectors as a ``.safetensors`` file that :func:`load_teacher` reads, atomically."""
    named = {"users": tables.users, "items": tables.items}
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in named.items()}, temporary)


def save_lists(path: str | Path, lists: TopKLists, *, num_items: int) -> None:
    """Write ranked lists as a ``.parquet`` file that :func:`load_teacher` reads, atomically; padding is left out."""
    ids, scores = lists.ids.cpu().numpy(), lists.scores.cpu().numpy()
    users, positions = np.nonzero(ids >= 0)
    columns = [users, ids[users, positions], positions + 1, scores[users, positions]]
    types = [pa.int32() if len(ids) < 2**31 else pa.int64(), pa.int32() if num_items < 2**31 else pa.int64()]
    types += [pa.int32(), pa.float32()]
    arrays = [pa.array(c).cast(t) for c, t in zip(columns, types, strict=True)]
    sizes = {"fastkd.num_users": str(len(ids)), "fastkd.num_items": str(num_items)}
    schema = pa.schema(list(zip(LIST_COLUMNS, types, strict=True)), metadata=sizes)
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged file into a ``TeacherError`` that names it."""
    try:
        yield
    except (SafetensorError, pa.ArrowException, OSError, ValueError, EOFError) as error:
        if isinstance(error, TeacherError):
            raise
        raise TeacherError(f"teacher file {path} is damaged or of another format: {error}") from error


def _safetensors(path: Path) -> tuple[Tensor, Tensor]:
    with _readable(path):
        tensors = load_file(path)
    missing = [name for name in ("users", "items") if name not in tensors]
    if missing:
        raise TeacherError(
            f"teacher file {path} lacks {', '.join(missing)}; it holds {', '.join(sorted(tensors)) or 'nothing'}"
        )
    return tensors["users"], tensors["items"]


def _npy(path: Path) -> Tensor:
    with _readable(path):
        array = np.load(path, allow_pickle=False)
    if array.dtype.kind != "f":
        raise TeacherError(f"teacher file {path} holds dtype {array.dtype}; floating values are needed")
    return torch.from_numpy(array.astype(np.float32, copy=False))


def _check_counts(origin: str, users: int, items: int, num_users: int, num_items: int) -> None:
    if (users, items) != (num_users, num_items):
        raise TeacherError(
            f"{origin} is a teacher of {users} users x {items} items, but the data has {num_users} x {num_items}"
        )


def _lists(path: Path, num_users: int, num_items: int, short: Short) -> ListTeacher:
    users, items, ranks, scores = _columns(path, num_users, num_items)
    for name, ids, count in (("user", users, num_users), ("item", items, num_items)):
        bad = np.flatnonzero((ids < 0) | (ids >= count))
        if len(bad):
            raise TeacherError(f"{path}: row {bad[0]} has {name} {ids[bad[0]]}, outside [0, {count})")
    _check_ranks(path, users, ranks)
    width = int(ranks.max()) if len(ranks) else 1
    ids = np.full((num_users, width), -1, dtype=np.int64)
    table = np.full((num_users, width), -np.inf, dtype=np.float32)
    ids[users, ranks - 1] = items
    table[users, ranks - 1] = scores
    try:
        return ListTeacher(torch.from_numpy(ids), torch.from_numpy(table), num_items, short=short)
    except TeacherError as error:
        raise TeacherError(f"{path}: {error}") from error


def _columns(path: Path, num_users: int, num_items: int) -> list[NDArray[Any]]:
    """Return the four columns as arrays, types and sizes checked."""
    with _readable(path):
        table = pq.read_table(path)
    missing = [c for c in LIST_COLUMNS if c not in table.column_names]
    if missing:
        raise TeacherError(f"{path} lacks the column(s) {', '.join(missing)}; it holds {', '.join(table.column_names)}")
    metadata = table.schema.metadata or {}
    stated = [int(metadata.get(f"fastkd.num_{n}".encode(), c)) for n, c in (("users", num_users), ("items", num_items))]
    _check_counts(str(path), stated[0], stated[1], num_users, num_items)
    columns = []
    for name in LIST_COLUMNS:
        column = table.column(name)
        fits = pa.types.is_floating if name == "score" else pa.types.is_integer
        if column.null_count or not fits(column.type):
            wanted = "floating" if name == "score" else "integer"
            raise TeacherError(
                f"{path}: column {name} must be {wanted} without nulls, "
                f"is {column.type} with {column.null_count} null(s)"
            )
        columns.append(column.to_numpy().astype(np.float32 if name == "score" else np.int64, copy=False))
    return columns


def _check_ranks(path: Path, users: NDArray[np.int64], ranks: NDArray[np.int64]) -> None:
    """Refuse a user whose ranks are not 1..n."""
    order = np.lexsort((ranks, users))
    starts = np.searchsorted(users[order], users[order], side="left")
    wrong = np.flatnonzero(ranks[order] != np.arange(len(order)) - starts + 1)
    if len(wrong):
        row = order[wrong[0]]
        wanted = wrong[0] - starts[wrong[0]] + 1
        raise TeacherError(
            f"{path}: user {users[row]} has rank {ranks[row]} where {wanted} was expected (row {row}); "
            "ranks are 1..n, each once"
        )
