"""Bulk recommendation: the best items of many users, streamed to one Parquet or CSV file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fastkd.core.config import conform
from fastkd.core.errors import ConfigError, DataError
from fastkd.core.files import atomic_path
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import IdMap, typed_ids
from fastkd.evaluation.streaming import check_catalogue, iter_topk
from fastkd.models.list_files import IDS_KEY
from fastkd.models.protocol import Recommender, Tables

Progress = Callable[[int, int], None]
"""Called with (users done, users in all) after each chunk."""

Ranked = tuple[NDArray[np.int64], Tensor, Tensor]

# Rows of a Parquet row group: chunks of few users are joined, so that a file has not thousands of groups.
_GROUP_ROWS = 1 << 18
_FORMATS: dict[str, Literal["parquet", "csv"]] = {".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True, kw_only=True)
class RecommendOptions:
    """How to recommend.

    ``k`` items a user; ``chunk`` users at once, None takes what ``memory_budget_mb`` allows;
    ``compression`` is Parquet's.
    """

    k: int = 10
    chunk: int | None = None
    memory_budget_mb: int = 256
    compression: Literal["zstd", "snappy", "none"] = "zstd"
    backend: str = "auto"

    def __post_init__(self) -> None:
        conform(self)
        for name, value in (("k", self.k), ("memory_budget_mb", self.memory_budget_mb), ("chunk", self.chunk)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be a positive integer, got {value!r}")


@dataclass(frozen=True)
class RecommendResult:
    """What was written: ``rows`` lines for ``users`` users, ``short_users`` of which have fewer than k items."""

    path: Path
    users: int
    rows: int
    short_users: int
    seconds: float


def recommend(
    source: Tables | Recommender,
    path: Path | str,
    *,
    user_ids: IdMap,
    item_ids: IdMap,
    users: ArrayLike | None = None,
    exclude: Interactions | None = None,
    options: RecommendOptions | None = None,
    progress: Progress | None = None,
) -> RecommendResult:
    """Write each user's best items as rows (user, item, rank, score), in the ids of the source data.

    Rows come user by user in the order asked for, rank 1 first; a user with fewer than ``k`` items left
    gets fewer rows. Users go through the catalogue in chunks, each written before the next is ranked, so memory
    depends on neither the number of users nor of items beyond the tables themselves. The file
    appears whole or not at all.

    ``source``: tables, or a recommender (its frozen tables). ``path``: ``.parquet`` or ``.csv``; an existing file is
    replaced. ``user_ids``, ``item_ids``: internal -> original ids. ``users``: original ids of the users to serve;
    None serves all. ``exclude``: items not to recommend, one row per user of ``source`` (usually what they have
    seen). ``progress``: called after each chunk.

    Raises ``DataError`` for unknown or repeated users, and id maps or masks of other sizes than the tables;
    ``ConfigError`` for an unknown file suffix and k larger than the catalogue.
    """
    options, started = options or RecommendOptions(), time.perf_counter()
    file_format = _format_of(path)
    tables = source.frozen_tables() if isinstance(source, Recommender) else source.detach()
    _check_sizes(tables, user_ids, item_ids, exclude)
    check_catalogue(options.k, tables.num_items)
    wanted = _wanted(users, user_ids)
    masks = [] if exclude is None else [exclude]
    rows = short = done = 0
    with atomic_path(path) as temporary, _Writer(temporary, file_format, user_ids, item_ids, options) as writer:
        for chunk, ids, scores in _chunks(tables, wanted, masks, options):
            written = writer.write(chunk, ids.numpy(), scores.numpy())
            rows, done = rows + int(written.sum()), done + len(chunk)
            short += int(np.count_nonzero(written < options.k))
            if progress is not None:
                progress(done, len(wanted))
    return RecommendResult(Path(path), len(wanted), rows, short, time.perf_counter() - started)


class _Writer:
    """Appends chunks to a Parquet or CSV file; closed by its context."""

    def __init__(
        self,
        path: Path,
        file_format: Literal["parquet", "csv"],
        user_ids: IdMap,
        item_ids: IdMap,
        options: RecommendOptions,
    ) -> None:
        self._user_ids, self._item_ids = user_ids, item_ids
        self._held: list[Any] = []
        self._schema = pa.schema(
            [
                ("user", _arrow_type(user_ids)),
                ("item", _arrow_type(item_ids)),
                ("rank", pa.int32()),
                ("score", pa.float32()),
            ],
            metadata={IDS_KEY: "original"},
        )
        self._file: Any = (
            pa.parquet.ParquetWriter(path, self._schema, compression=options.compression)
            if file_format == "parquet"
            else pa.csv.CSVWriter(path, self._schema)
        )

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._file.close()

    def write(self, users: NDArray[np.int64], ids: NDArray[Any], scores: NDArray[Any]) -> NDArray[np.int64]:
        """Write one chunk without its padding; return the number of rows of each user, Int64[B]."""
        held = ids >= 0
        ranks = np.broadcast_to(np.arange(1, ids.shape[1] + 1, dtype=np.int32), ids.shape)
        counts: NDArray[np.int64] = held.sum(axis=1)
        columns = [
            self._user_ids.decode(np.repeat(users, counts)),
            self._item_ids.decode(ids[held]),
            ranks[held],
            scores[held],
        ]
        arrays = [pa.array(column, type=field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._held.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(len(table) for table in self._held) >= _GROUP_ROWS:
            self._flush()
        return counts

    def _flush(self) -> None:
        if any(len(table) for table in self._held):
            self._file.write(pa.concat_tables(self._held).combine_chunks())
        self._held.clear()


def _chunks(
    tables: Tables, users: NDArray[np.int64], masks: Sequence[Interactions], options: RecommendOptions
) -> Iterator[Ranked]:
    """Yield ranked chunks of at most ``options.chunk`` users."""
    size = options.chunk or max(len(users), 1)
    for start in range(0, len(users), size):
        yield from iter_topk(
            tables,
            users[start : start + size],
            options.k,
            masks=masks,
            memory_budget_mb=options.memory_budget_mb,
            backend=options.backend,
        )


def _wanted(users: ArrayLike | None, user_ids: IdMap) -> NDArray[np.int64]:
    """Return the internal ids of the users to serve."""
    if users is None:
        return np.arange(len(user_ids), dtype=np.int64)
    asked = typed_ids(np.asarray(users))
    if asked.ndim != 1:
        raise DataError(f"users must be one-dimensional, got shape {asked.shape}")
    if asked.size == 0:
        return np.zeros(0, dtype=np.int64)
    known = user_ids.originals
    if (asked.dtype.kind in "iu") != (known.dtype.kind in "iu"):
        raise DataError(f"users are {asked.dtype} such as {asked[0]}, the ids are {known.dtype} such as {known[0]}")
    try:
        wanted = user_ids.encode(asked)
    except DataError as error:
        raise DataError(f"users to serve: {error}") from error
    ids, counts = np.unique(wanted, return_counts=True)
    if len(ids) < len(wanted):
        raise DataError(f"user {user_ids.originals[ids[counts > 1][0]]} is asked for more than once")
    return wanted


def _check_sizes(tables: Tables, user_ids: IdMap, item_ids: IdMap, exclude: Interactions | None) -> None:
    shape = (tables.num_users, tables.num_items)
    if (len(user_ids), len(item_ids)) != shape:
        raise DataError(
            f"id maps hold {len(user_ids)} users and {len(item_ids)} items, the tables {shape[0]} and {shape[1]}"
        )
    if exclude is not None and (exclude.num_users, exclude.num_items) != shape:
        raise DataError(f"exclude is {exclude!r}, the tables hold {shape[0]} users and {shape[1]} items")


def check_request(path: Path | str, users: ArrayLike | None, user_ids: IdMap) -> None:
    """Refuse a file name or users that :func:`recommend` would refuse."""
    _format_of(path)
    _wanted(users, user_ids)


def _format_of(path: Path | str) -> Literal["parquet", "csv"]:
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ConfigError(f"cannot write {Path(path).name!r}: the name must end in {' or '.join(_FORMATS)}")
    return _FORMATS[suffix]


def _arrow_type(ids: IdMap) -> Any:
    return pa.int64() if ids.originals.dtype.kind in "iu" else pa.string()
