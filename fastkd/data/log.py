"""An interaction log: what a file says, column by column, before anything is filtered or numbered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastkd.core.config import conform
from fastkd.core.errors import ConfigError, DataError
from fastkd.data.dataset import IdMap

Format = Literal["auto", "parquet", "csv", "inter", "movielens", "adjacency", "npz"]
MAX_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read a source. Everything has a default that looks at the file.

    ``format``: by extension when ``"auto"``. ``user``, ``item``, ``rating``, ``time``: column names, by
    default the usual ones (``user_id``, ``movieId``, ``timestamp``, ...); an empty string means "do not
    read it". ``lenient_time``: a time column that is found, not named, and holds no times is left out with a warning,
    not refused. ``split``: column of train/valid/test labels, read only when named. ``delimiter``: of delimited
    text, by default sniffed from the first line; ``"::"`` is understood. ``columns``: names for a delimited file
    without a header line; by default a first line holding a number means that there is none, and the columns are
    user, item, rating, time in this order.
    """

    format: Format = "auto"
    user: str | None = None
    item: str | None = None
    rating: str | None = None
    time: str | None = None
    lenient_time: bool = False
    split: str | None = None
    delimiter: str | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        conform(self)
        check_delimiter(self.delimiter)


def check_delimiter(delimiter: str | None) -> None:
    """Refuse a delimiter that no table can have."""
    if delimiter in (None, "::"):
        return
    assert delimiter is not None
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '\r\n"':
        raise ConfigError(f"delimiter must be one character (or '::'), such as ',' or '\\t', got {delimiter!r}")


def ways_to_set(option: str) -> str:
    """Return how a reading option is set on the command line, in a study, and in Python, for messages."""
    key = f"{option}_column" if option in ("user", "item", "rating", "time", "split") else option
    return f"--set {key}=... (in a study data.{key}=...), DataConfig({key}=...) or ReadOptions({option}=...)"


@dataclass(frozen=True, eq=False)
class IdColumn:
    """A column of ids without one Python object per row.

    ``codes`` int64[n]: the ids themselves, or positions in ``names`` str[m] (sorted, unique) where the ids are
    text; code -1 in a text column is a missing label (only split columns may have it).
    """

    codes: NDArray[np.int64]
    names: NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def values(self) -> NDArray[Any]:
        """The ids as the source wrote them, ``int64[n]`` or ``str[n]``."""
        if self.names is None:
            return self.codes
        named: NDArray[np.str_] = self.names[np.maximum(self.codes, 0)] if len(self.names) else np.full(len(self), "")
        return np.where(self.codes >= 0, named, "")

    def take(self, rows: NDArray[Any]) -> IdColumn:
        """Return the column at ``rows`` (positions or a mask)."""
        return IdColumn(self.codes[rows], self.names)

    def compact(self) -> tuple[NDArray[np.int64], IdMap]:
        """Return dense codes int64[n] in 0..m-1 and the map back; m distinct ids, in sorted order."""
        distinct, dense = unique_inverse(self.codes)
        return dense, IdMap(distinct if self.names is None else self.names[distinct])

    @classmethod
    def from_values(cls, values: ArrayLike) -> IdColumn:
        """Build from integers or text; other dtypes are refused."""
        array = np.asarray(values)
        if array.ndim != 1:
            raise DataError(f"ids must be one-dimensional, got shape {array.shape}")
        if array.dtype == np.uint64 and array.size and array.max() > np.uint64(MAX_ID):
            raise DataError(f"id {array.max()} is past the largest id {MAX_ID}; cast the ids to text")
        if array.dtype.kind in "iu" or array.size == 0:
            return cls(array.astype(np.int64))
        if array.dtype.kind != "U":
            raise DataError(f"ids must be integers or text, got dtype {array.dtype}")
        names, codes = np.unique(array, return_inverse=True)
        return cls(codes.astype(np.int64), names)


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """Rows of interactions in file order; all columns have the same length.

    ``rating`` float64[n] (NaN = missing), ``time`` int64[n] or float64[n] (NaN = missing), ``split``
    labels; each is None where the source has no such column. ``shape``: (users, items) when the source
    states it. ``source`` names the file in messages. ``columns``: role -> the source's column that was read for it,
    ``unread``: those that were not. ``dated``: times are microseconds since 1970 UTC, which datetime64 of any unit
    becomes (NaT becomes NaN). ``filtered``: rows were left out, row numbers are not the file's.
    """

    users: IdColumn
    items: IdColumn
    rating: NDArray[np.float64] | None = None
    time: NDArray[Any] | None = None
    split: IdColumn | None = None
    source: str = "arrays"
    shape: tuple[int, int] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    dated: bool = False
    filtered: bool = False

    def __post_init__(self) -> None:
        for name, column in (("item", self.items), ("rating", self.rating), ("time", self.time), ("split", self.split)):
            if column is not None and len(column) != len(self.users):
                raise DataError(f"{self.source}: {len(self.users)} users but {len(column)} {name} values")
        if self.time is not None:
            object.__setattr__(self, "dated", self.dated or self.time.dtype.kind == "M")
            object.__setattr__(self, "time", _as_times(self.time, self.source))

    def __len__(self) -> int:
        return len(self.users)

    @property
    def user(self) -> NDArray[Any]:
        """User ids as the source wrote them, ``int64[n]`` or ``str[n]``."""
        return self.users.values

    @property
    def item(self) -> NDArray[Any]:
        """Item ids as the source wrote them, ``int64[n]`` or ``str[n]``."""
        return self.items.values

    def take(self, rows: NDArray[Any]) -> InteractionLog:
        """Return the log at ``rows`` (positions or a mask), in that order."""
        users = self.users.take(rows)
        return replace(
            self,
            users=users,
            items=self.items.take(rows),
            rating=None if self.rating is None else self.rating[rows],
            time=None if self.time is None else self.time[rows],
            split=None if self.split is None else self.split.take(rows),
            filtered=self.filtered or len(users) < len(self),
        )

    def row_name(self, position: int) -> str:
        """Return how messages call the row at a position from 0: by its number in the source, or among those kept."""
        return f"row {position + 1} of those kept" if self.filtered else f"row {position + 1}"

    @classmethod
    def from_arrays(
        cls,
        user: ArrayLike,
        item: ArrayLike,
        *,
        rating: ArrayLike | None = None,
        time: ArrayLike | None = None,
        split: ArrayLike | None = None,
    ) -> InteractionLog:
        """Build from parallel arrays; ids are integers or text."""
        return cls(
            IdColumn.from_values(user),
            IdColumn.from_values(item),
            None if rating is None else np.asarray(rating, dtype=np.float64),
            None if time is None else np.asarray(time),
            None if split is None else IdColumn.from_values(split),
        )


def _as_times(time: NDArray[Any], source: str) -> NDArray[Any]:
    """Return int64, or float64 with NaN for a missing time; what is neither a number nor a date is refused."""
    if time.dtype.kind == "M":
        whole = time.astype("datetime64[us]").astype(np.int64)
        missing = np.isnat(time)
        return np.where(missing, np.nan, whole) if missing.any() else whole
    if time.dtype.kind not in "iuf":
        first = f", first: {time.flat[0]!s:.40}" if time.size else ""
        raise DataError(
            f"{source}: times must be numbers or dates (datetime64), got dtype {time.dtype}{first}; convert them: "
            "numpy.asarray(time, dtype='datetime64[us]') or dtype=float"
        )
    if time.dtype == np.uint64 and time.size and time.max() > np.uint64(MAX_ID):
        raise DataError(f"{source}: time {time.max()} is past the largest integer {MAX_ID}")
    return time.astype(np.float64 if time.dtype.kind == "f" else np.int64, copy=False)


def unique_inverse(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sorted distinct values and the position of each value among them; O(n) for dense ranges."""
    if len(values) == 0:
        return values, values
    low, span = int(values.min()), int(values.max()) - int(values.min()) + 1
    if span > 4 * len(values) + 1024:
        distinct, inverse = np.unique(values, return_inverse=True)
        return distinct, inverse.astype(np.int64, copy=False)
    present = np.zeros(span, dtype=bool)
    present[values - low] = True
    position = np.cumsum(present, dtype=np.int64) - 1
    return np.flatnonzero(present).astype(np.int64) + low, position[values - low]
