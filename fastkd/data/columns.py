"""From Arrow columns to checked numpy columns: which column plays which role, and what its values must be.

Batches go in one at a time; an offending value is named by source, column, row (the first data row is
row 1) and value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fastkd.core.errors import DataError, did_you_mean
from fastkd.data.log import IdColumn, InteractionLog, ReadOptions

USUAL_NAMES = {
    "user": ("user", "user_id", "userid", "uid", "reviewerid", "reviewer_id", "session_id"),
    "item": (
        "item",
        "item_id",
        "itemid",
        "iid",
        "movieid",
        "movie_id",
        "asin",
        "business_id",
        "product_id",
        "parent_asin",
    ),
    "rating": ("rating", "ratings", "stars", "overall", "score"),
    "time": ("time", "timestamp", "ts", "datetime", "date", "unixreviewtime"),
}
MAX_ID_LENGTH = 256
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"


def choose_columns(found: Sequence[str], options: ReadOptions, source: str) -> dict[str, str]:
    """Return role -> column name; ``user`` and ``item`` are always there, the others where found or named."""
    by_lower = {name.lower(): name for name in reversed(list(found))}
    chosen: dict[str, str] = {}
    for role in ("user", "item", "rating", "time", "split"):
        wanted = getattr(options, role)
        if wanted == "" and role not in ("user", "item"):
            continue
        if wanted:
            if wanted not in found:
                raise DataError(
                    f"{source}: no column {wanted!r} for {role}.{did_you_mean(wanted, found)} {_listing(found)}"
                )
            chosen[role] = wanted
            continue
        usual = [by_lower[name] for name in USUAL_NAMES.get(role, ()) if name in by_lower]
        if usual:
            chosen[role] = usual[0]
        elif role in ("user", "item"):
            near = did_you_mean(role, found)
            raise DataError(
                f"{source}: no {role} column.{near} {_listing(found)}; name it with ReadOptions({role}=...)"
            )
    if chosen["user"] == chosen["item"]:
        raise DataError(f"{source}: column {chosen['user']!r} is named for both user and item")
    return chosen


def _listing(found: Sequence[str]) -> str:
    shown = ", ".join(repr(str(name)) for name in list(found)[:20])
    return f"Columns found: {shown}{', ...' if len(found) > 20 else ''}"


class LogBuilder:
    """Collects record batches into an :class:`InteractionLog`."""

    def __init__(self, roles: dict[str, str], source: str, *, text: bool) -> None:
        self.source = source
        self.roles = roles
        self.rows = 0
        self._ids = {r: _Ids(source, c, text, r) for r, c in roles.items() if r in ("user", "item", "split")}
        self._numbers = {r: _Numbers(source, c, r == "time") for r, c in roles.items() if r in ("rating", "time")}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in one batch; its values are checked now."""
        if not batch.num_rows:
            return
        builders: dict[str, _Ids | _Numbers] = {**self._ids, **self._numbers}
        for role, builder in builders.items():
            builder.add(batch.column(self.roles[role]), self.rows)
        self.rows += batch.num_rows

    def finish(self) -> InteractionLog:
        """Return the log; a source without rows is refused."""
        if not self.rows:
            raise DataError(f"{self.source}: no rows")
        ids = {role: builder.finish() for role, builder in self._ids.items()}
        numbers = {role: builder.finish() for role, builder in self._numbers.items()}
        return InteractionLog(
            ids["user"], ids["item"], numbers.get("rating"), numbers.get("time"), ids.get("split"), self.source
        )


class _Ids:
    """Ids as int64 while every value is one, as text from the first that is not."""

    def __init__(self, source: str, column: str, text: bool, role: str) -> None:
        self.where = f"{source}: column {column!r}"
        self.infer, self.labels = text and role != "split", role == "split"
        self.integers: list[NDArray[np.int64]] = []
        self.texts: list[pa.DictionaryArray] = []

    def add(self, array: pa.Array, offset: int) -> None:
        array = _plain(array)
        if array.null_count and not self.labels:
            raise DataError(f"{self.where}, row {offset + _first(pc.is_null(array)) + 1}: null id")
        if self.labels and not pa.types.is_dictionary(array.type):
            array = _encode(array.cast(pa.string()))
        if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
            return self._add_integers(_whole(array, self.where, offset))
        if pa.types.is_string(array.type) and self.infer and pc.all(pc.match_substring_regex(array, _INTEGER)).as_py():
            return self._add_integers(array.cast(pa.int64()).to_numpy())
        if pa.types.is_string(array.type):
            self._check_text(array, offset)
            array = _encode(array)
        if not pa.types.is_dictionary(array.type):
            raise DataError(f"{self.where}: ids must be integers or text, the column is {array.type}")
        self._check_text(array.dictionary, None)
        self._to_text()
        self.texts.append(array)
        return None

    def _add_integers(self, values: NDArray[np.int64]) -> None:
        if self.texts:
            self.texts.append(_encode(pa.array(values).cast(pa.string())))
        else:
            self.integers.append(values)

    def _to_text(self) -> None:
        self.texts.extend(_encode(pa.array(values).cast(pa.string())) for values in self.integers)
        self.integers.clear()

    def _check_text(self, array: pa.Array, offset: int | None) -> None:
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.where}: text that is not UTF-8: {error}") from error
        longest = pc.max(pc.utf8_length(array)).as_py() or 0
        if longest > MAX_ID_LENGTH:
            at = _first(pc.greater(pc.utf8_length(array), MAX_ID_LENGTH))
            row = "" if offset is None else f", row {offset + at + 1}"
            start = array[at].as_py()[:40]
            raise DataError(f"{self.where}{row}: id of {longest} characters (limit {MAX_ID_LENGTH}): {start!r}...")

    def finish(self) -> IdColumn:
        if not self.texts:
            return IdColumn(np.concatenate(self.integers))
        joined = pa.chunked_array(self.texts).unify_dictionaries()
        names = joined.chunk(0).dictionary.to_numpy(zero_copy_only=False).astype(str)
        codes = np.concatenate([c.indices.fill_null(-1).to_numpy().astype(np.int64) for c in joined.chunks])
        distinct, inverse = np.unique(names, return_inverse=True)
        if len(distinct) != len(names) and not self.labels:
            raise DataError(f"{self.where}: ids that differ only in trailing NUL characters")
        ranks = np.append(inverse.astype(np.int64), -1)  # code -1 (missing label) stays -1
        return IdColumn(ranks[codes], distinct)


class _Numbers:
    """Ratings as float64, times as int64 where possible; a missing value becomes NaN."""

    def __init__(self, source: str, column: str, time: bool) -> None:
        self.where, self.time = f"{source}: column {column!r}", time
        self.chunks: list[NDArray[Any]] = []

    def add(self, array: pa.Array, offset: int) -> None:
        array = _plain(array)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if self.time and pa.types.is_date(array.type):
            array = array.cast(pa.timestamp("us"))
        if pa.types.is_timestamp(array.type) and self.time:
            array = array.cast(pa.int64())
        elif pa.types.is_string(array.type):
            array = self._parse(array, offset)
        elif not (
            pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)
        ):
            raise DataError(f"{self.where}: expected numbers, the column is {array.type}")
        if self.time and pa.types.is_integer(array.type) and not array.null_count:
            self.chunks.append(array.cast(pa.int64()).to_numpy())
        else:
            self.chunks.append(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))

    def _parse(self, array: pa.Array, offset: int) -> pa.Array:
        missing = pc.is_in(pc.utf8_lower(array), value_set=pa.array(["", "nan", "null", "na", "none"]))
        array = pc.if_else(missing, pa.scalar(None, pa.string()), array)
        for kind in (pa.int64(), pa.float64(), pa.timestamp("us")) if self.time else (pa.float64(),):
            try:
                parsed = array.cast(kind)
            except pa.ArrowInvalid:
                continue
            return parsed.cast(pa.int64()) if pa.types.is_timestamp(kind) else parsed
        bad = pc.invert(pc.match_substring_regex(array, _NUMBER))
        at = _first(bad) if pc.any(bad).as_py() else 0
        raise DataError(f"{self.where}, row {offset + at + 1}: expected a number, got {array[at].as_py()!r}")

    def finish(self) -> NDArray[Any]:
        return np.concatenate(self.chunks)


def _plain(array: pa.Array) -> pa.Array:
    """Bring large, view and dictionary variants of text to one form."""
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_dictionary(kind):
        if _is_text(kind.value_type):
            target = pa.dictionary(pa.int64(), pa.string())
            return pa.DictionaryArray.from_arrays(
                array.indices.cast(pa.int64()), array.dictionary.cast(pa.string())
            ).cast(target)
        return array.dictionary_decode()
    return array.cast(pa.string()) if _is_text(kind) else array


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _encode(array: pa.Array) -> pa.DictionaryArray:
    encoded = array.dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.int64()), encoded.dictionary)


def _whole(array: pa.Array, where: str, offset: int) -> NDArray[np.int64]:
    """Return integers as int64; a fraction, NaN or an id past 2**63 - 1 is refused by row and value."""
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        bad = ~(np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**53))
        problem = "not a whole number that a float holds exactly"
    else:
        bad = values > np.uint64(2**63 - 1) if values.dtype == np.uint64 else np.zeros(0, dtype=bool)
        problem = f"past the largest id {2**63 - 1}"
    if bad.any():
        at = int(np.argmax(bad))
        name = "null id" if values.dtype.kind == "f" and np.isnan(values[at]) else f"id {values[at]} is {problem}"
        raise DataError(f"{where}, row {offset + at + 1}: {name}")
    whole: NDArray[np.int64] = values.astype(np.int64)
    return whole


def _first(mask: pa.Array) -> int:
    return int(np.argmax(mask.fill_null(False).to_numpy(zero_copy_only=False)))
