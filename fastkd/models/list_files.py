"""Files of ranked lists: the columns user, item, rank and perhaps score, in the data's own ids or in row numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fastkd.core.config import conform
from fastkd.core.errors import TeacherError
from fastkd.core.files import atomic_path
from fastkd.data.dataset import IdMap
from fastkd.models._reading import check_sizes, readable
from fastkd.models.list_teacher import ListTeacher, Names, Short
from fastkd.models.teacher import TopKLists

LIST_COLUMNS = ("user", "item", "rank", "score")
"""Columns of a list file: ids, rank from 1 (best), score not rising with rank; score may be absent."""
LIST_SUFFIXES = (".parquet", ".csv")

IDS_KEY = "fastkd.ids"
"""Where the metadata of a Parquet file says which ids it holds."""
_SIZE_KEYS = ("fastkd.num_users", "fastkd.num_items")
_SHOWN = 3

ListIds = Literal["original", "rows"]


@dataclass(frozen=True, kw_only=True)
class ListsConfig:
    """Ranked lists in a ``.parquet`` or ``.csv`` file, a row for each entry: user, item, rank and perhaps score.

    ``ids``: ``"original"``, the ids of the source, integers or text; or ``"rows"``, the data's own numbers from 0.
    None: what the file says of itself, as Parquet files written by fastkd do, else original. ``short``: what to do with
    users who have fewer items than are asked for, or no list, see :class:`ListTeacher`. ``unknown``: what to do with
    entries whose user or item the data lacks: ``"refuse"`` or ``"drop"``.
    """

    path: Path
    ids: ListIds | None = None
    short: Short = "refuse"
    unknown: Literal["refuse", "drop"] = "refuse"

    def __post_init__(self) -> None:
        conform(self)


def load_lists(
    source: str | Path | ListsConfig, users: IdMap, items: IdMap, *, folder: str | Path = "."
) -> ListTeacher:
    """Return the teacher in a file of ranked lists, over the ``users`` and ``items`` of a data set.

    ``source``: the file, or its description. ``folder``: what a relative path starts from.

    Raises ``TeacherError`` that names the file and what in it does not fit.
    """
    config = source if isinstance(source, ListsConfig) else ListsConfig(path=Path(source))
    path = Path(folder) / config.path
    table = _read(path, config.ids)
    rows = _holds_rows(path, table, config.ids)
    _check_types(path, table, rows=rows)
    if rows:
        _check_stated_sizes(path, table, (len(users), len(items)))
    at = {}
    for name, ids in (("user", users), ("item", items)):
        at[name] = _positions(table.column(name), ids, rows=rows)
        if config.unknown == "refuse":
            what = f"{name}(s) outside [0, {len(ids)})" if rows else f"{name}(s) that the data lacks"
            perhaps = "ids of the source (ids='original')" if rows else "row numbers (ids='rows')"
            _refuse_unknown(path, table.column(name), at[name], what, perhaps)
    lists, scores = _matrices(path, table, at["user"], at["item"], len(users))
    names = Names() if rows else Names(users, items)
    try:
        return ListTeacher(lists, scores, len(items), short=config.short, names=names)
    except TeacherError as error:
        raise TeacherError(f"{path}: {error}") from error


def save_lists(path: str | Path, lists: TopKLists, *, num_items: int) -> None:
    """Write ranked lists as a ``.parquet`` file of row numbers that :func:`load_lists` reads, atomically.

    Padding is left out, and the column score where there are no scores.
    """
    ids = lists.ids.cpu().numpy()
    users, positions = np.nonzero(ids >= 0)
    columns = [users, ids[users, positions], positions + 1]
    types = [pa.int32() if count < 2**31 else pa.int64() for count in (len(ids), num_items, ids.shape[1])]
    if lists.known_scores is not None:
        columns.append(lists.known_scores.cpu().numpy()[users, positions])
        types.append(pa.float32())
    arrays = [pa.array(c).cast(t) for c, t in zip(columns, types, strict=True)]
    about = {IDS_KEY: "rows", _SIZE_KEYS[0]: str(len(ids)), _SIZE_KEYS[1]: str(num_items)}
    schema = pa.schema(list(zip(LIST_COLUMNS, types, strict=False)), metadata=about)
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary)


def _read(path: Path, ids: ListIds | None) -> pa.Table:
    """Return the columns of the file that lists have; refuse one that lacks any but score."""
    if path.suffix.lower() not in LIST_SUFFIXES:
        raise TeacherError(f"cannot read lists from {path}: the name must end in {' or '.join(LIST_SUFFIXES)}")
    with readable(path):
        if path.suffix.lower() == ".csv":
            # Read as text, ids stay what they are: 007 is not 7.
            kind = pa.int64() if ids == "rows" else pa.string()
            types = dict(zip(LIST_COLUMNS, (kind, kind, pa.int64(), pa.float32()), strict=True))
            table = pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=types))
            return table.select(_held(path, table.column_names))
        with pq.ParquetFile(path) as file:
            return file.read(columns=_held(path, file.schema_arrow.names))


def _held(path: Path, found: list[str]) -> list[str]:
    twice = [c for c in LIST_COLUMNS if found.count(c) > 1]
    if twice:
        raise TeacherError(f"{path} has more than one column {twice[0]}; it holds {', '.join(found)}: keep one of each")
    missing = [c for c in LIST_COLUMNS if c not in found and c != "score"]
    if missing:
        raise TeacherError(f"{path} lacks the column(s) {', '.join(missing)}; it holds {', '.join(found)}")
    return [c for c in LIST_COLUMNS if c in found]


def _holds_rows(path: Path, table: pa.Table, wanted: ListIds | None) -> bool:
    """Return whether the ids are row numbers, by what is asked for and what the file says of itself."""
    about = table.schema.metadata or {}
    # Before the key there was, files with sizes held row numbers.
    said = about.get(IDS_KEY.encode(), b"rows" if _SIZE_KEYS[0].encode() in about else b"").decode()
    if wanted and said and wanted != said:
        raise TeacherError(
            f"{path} says that its ids are {said!r}, but ids={wanted!r} was asked for; leave ids out, or read it with "
            "load_lists and the data's users and items"
        )
    return (wanted or said) == "rows"


def _check_types(path: Path, table: pa.Table, *, rows: bool) -> None:
    for name in table.column_names:
        column = table.column(name)
        wanted, fits = "integer", bool(pa.types.is_integer(column.type))
        if name == "score":
            wanted, fits = "floating", pa.types.is_floating(column.type)
        elif name != "rank" and not rows:
            wanted, fits = "integer or text", fits or _is_text(column.type)
        if column.null_count or not fits:
            raise TeacherError(
                f"{path}: column {name} must be {wanted} without nulls, "
                f"is {column.type} with {column.null_count} null(s)"
            )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _check_stated_sizes(path: Path, table: pa.Table, wanted: tuple[int, int]) -> None:
    about = table.schema.metadata or {}
    users, items = (int(about.get(key.encode(), count)) for key, count in zip(_SIZE_KEYS, wanted, strict=True))
    check_sizes(path, (users, items), wanted)


def _positions(column: pa.ChunkedArray, ids: IdMap, *, rows: bool) -> NDArray[np.int64]:
    """Return the row of each id Int64[n], -1 for those that are not among ``ids``."""
    if rows:
        values = column.to_numpy().astype(np.int64)
        return np.where((values >= 0) & (values < len(ids)), values, -1)
    known = pa.array(ids.originals)
    both = [pa.types.is_integer(c.type) and c.type != pa.uint64() for c in (column, known)]
    # A number and its digits are one id; unsigned ones may be past every number there is here.
    kind = pa.int64() if all(both) else pa.large_string()
    found = pc.index_in(column.cast(kind), value_set=known.cast(kind)).fill_null(-1)
    positions: NDArray[np.int64] = found.to_numpy().astype(np.int64)
    return positions


def _refuse_unknown(path: Path, column: pa.ChunkedArray, positions: NDArray[np.int64], what: str, perhaps: str) -> None:
    bad = np.flatnonzero(positions < 0)
    if len(bad):
        values = pc.unique(column.take(pa.array(bad))).to_pylist()
        first = ", ".join(repr(value) for value in values[:_SHOWN])
        raise TeacherError(
            f"{path} names {len(values)} {what}, first: {first} (row {bad[0]}); are they {perhaps}? "
            "unknown='drop' leaves such entries out (both are keys of lists in teacher.yaml)"
        )


def _matrices(
    path: Path, table: pa.Table, users: NDArray[np.int64], items: NDArray[np.int64], num_users: int
) -> tuple[NDArray[np.int64], NDArray[np.float32] | None]:
    """Return ids Int64[U, K] and scores of the known entries, best first; lists close over what is left out."""
    ranks = table.column("rank").to_numpy().astype(np.int64)
    order = np.lexsort((ranks, users))
    order = order[np.searchsorted(users[order], 0) :]
    wrong = np.flatnonzero(ranks[order] != _places(users[order]) + 1)
    if len(wrong):
        row, wanted = order[wrong[0]], _places(users[order])[wrong[0]] + 1
        user = table.column("user")[int(row)].as_py()
        raise TeacherError(
            f"{path}: user {user!r} has rank {ranks[row]} where {wanted} was expected (row {row}); "
            "ranks are 1..n, each once"
        )
    order = order[items[order] >= 0]
    if len(order) == 0:
        raise TeacherError(f"{path} lists no item of the data for any of its users: are the ids those of the data?")
    places = _places(users[order])
    shape = (num_users, int(places.max()) + 1)
    lists, scores = np.full(shape, -1, dtype=np.int64), None
    lists[users[order], places] = items[order]
    if "score" in table.column_names:
        scores = np.full(shape, -np.inf, dtype=np.float32)
        scores[users[order], places] = table.column("score").to_numpy()[order]
    return lists, scores


def _places(users: NDArray[np.int64]) -> NDArray[Any]:
    """Return the place of each entry among those of its user; ``users`` ascend."""
    return np.arange(len(users)) - np.searchsorted(users, users)
