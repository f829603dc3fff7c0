"""Checked numpy columns from Arrow arrays: ids, and ratings or times.

Arrays go in one at a time; an offending value is named by source, column, row (the first data row is row 1)
and value.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fastkd.core.errors import DataError
from fastkd.data.log import MAX_ID, IdColumn

MAX_ID_LENGTH = 256
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_ZONE = r":[0-9.]+(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_DAY = r"^[0-9-]{10}$"
_INSTANT = pa.timestamp("us", "UTC")


class Ids:
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


class Numbers:
    """Ratings as float64, times as int64 where possible; a missing value becomes NaN."""

    def __init__(self, source: str, column: str, time: bool) -> None:
        self.where, self.time = f"{source}: column {column!r}", time
        self.chunks: list[NDArray[Any]] = []
        self.dated: bool | None = None  # whether times are dates; None before the first that is there

    def add(self, array: pa.Array, offset: int) -> None:
        array = _plain(array)
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        dated = False
        if self.time and (pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)):
            array, dated = self._microseconds(array), True
        elif pa.types.is_string(array.type):
            array, dated = self._parse(array, offset)
        elif not (
            pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)
        ):
            kinds = "numbers or dates" if self.time else "numbers"
            raise DataError(f"{self.where}: expected {kinds}, the column is {array.type}")
        if array.null_count < len(array):
            self._check_kind(dated, offset)
        if self.time and pa.types.is_integer(array.type) and not array.null_count:
            self.chunks.append(array.cast(pa.int64()).to_numpy())
        else:
            self.chunks.append(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))

    def _microseconds(self, array: pa.Array) -> pa.Array:
        """Return dates of any unit as int64 microseconds since 1970 UTC; nanoseconds lose what is finer."""
        zone = getattr(array.type, "tz", None)
        try:
            return array.cast(pa.timestamp("us", zone), safe=getattr(array.type, "unit", "") != "ns").cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise DataError(f"{self.where}: a date that 64-bit microseconds do not reach: {error}") from error

    def _check_kind(self, dated: bool, offset: int) -> None:
        if self.dated is not None and self.dated != dated:
            kinds = ("dates", "numbers") if dated else ("numbers", "dates")
            raise DataError(
                f"{self.where}: {kinds[0]} in the rows from {offset + 1} on, {kinds[1]} before; write all times alike"
            )
        self.dated = dated

    def _parse(self, array: pa.Array, offset: int) -> tuple[pa.Array, bool]:
        missing = pc.is_in(pc.utf8_lower(array), value_set=pa.array(["", "nan", "null", "na", "none"]))
        array = pc.if_else(missing, pa.scalar(None, pa.string()), array)
        parsed = _numbers(array, time=self.time)
        return self._refuse(array, offset) if parsed is None else parsed

    def _refuse(self, array: pa.Array, offset: int) -> NoReturn:
        """Name the first value that cannot be read together with those before it."""
        good, bad = 0, len(array)  # the first `good` values can be read, the first `bad` cannot
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (good, middle) if _numbers(array[:middle], time=self.time) is None else (middle, bad)
        wanted = "a number or an ISO date (2024-01-31, 2024-01-31T10:00:00Z)" if self.time else "a number"
        if _numbers(array[good:bad], time=self.time) is not None:
            wanted = "a time written as in the rows before"
        raise DataError(f"{self.where}, row {offset + bad}: expected {wanted}, got {array[good].as_py()!r}")

    def finish(self) -> NDArray[Any]:
        return np.concatenate(self.chunks)


def _numbers(array: pa.Array, *, time: bool) -> tuple[pa.Array, bool] | None:
    """Return text as numbers, dates as microseconds since 1970 UTC, and whether they are dates.

    None where not every value is one.
    """
    for kind in (pa.int64(), pa.float64(), pa.timestamp("us"), _INSTANT) if time else (pa.float64(),):
        try:
            parsed = (_with_zones(array) if kind == _INSTANT else array).cast(kind)
        except pa.ArrowInvalid:
            continue
        dated = pa.types.is_timestamp(kind)
        return (parsed.cast(pa.int64()) if dated else parsed), dated
    return None


def _with_zones(array: pa.Array) -> pa.Array:
    """Write UTC behind dates without a zone, which is what a column without any zone is read in."""
    midnight = pc.binary_join_element_wise(array, "00:00", " ")
    array = pc.if_else(pc.match_substring_regex(array, _DAY), midnight, array)
    return pc.if_else(pc.match_substring_regex(array, _ZONE), array, pc.binary_join_element_wise(array, "Z", ""))


def _plain(array: pa.Array) -> pa.Array:
    """Bring large, view and dictionary variants of text to one form."""
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_dictionary(kind):
        if array.dictionary.null_count:  # a null among the values is one in every row that refers to it
            array = array.dictionary_decode().dictionary_encode()
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
        bad = values > np.uint64(MAX_ID) if values.dtype == np.uint64 else np.zeros(0, dtype=bool)
        problem = f"past the largest id {MAX_ID}; cast the column to text"
    if bad.any():
        at = int(np.argmax(bad))
        name = "null id" if values.dtype.kind == "f" and np.isnan(values[at]) else f"id {values[at]} is {problem}"
        raise DataError(f"{where}, row {offset + at + 1}: {name}")
    whole: NDArray[np.int64] = values.astype(np.int64)
    return whole


def _first(mask: pa.Array) -> int:
    return int(np.argmax(mask.fill_null(False).to_numpy(zero_copy_only=False)))
