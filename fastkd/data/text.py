"""Readers of text: delimited files (CSV, TSV, RecBole ``.inter``, MovieLens ``::``) and adjacency lists.

Files are streamed in blocks and parsed by Arrow or numpy; a ``.gz`` or ``.bz2`` suffix is understood.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from fastkd.core.errors import DataError
from fastkd.data.columns import USUAL_NAMES, LogBuilder, choose_columns
from fastkd.data.log import IdColumn, InteractionLog, ReadOptions, ways_to_set

DEFAULT_COLUMNS = ("user", "item", "rating", "time")
BLOCK = 1 << 23
_UNIT = "\x1f"  # stands in for "::", which Arrow's one-character delimiters cannot express


@dataclass(frozen=True)
class Layout:
    """What the first line says about a delimited file."""

    delimiter: str
    columns: tuple[str, ...]
    has_header: bool
    quoted: bool
    empty: int = 0  # lines before it


def head(path: str) -> list[str]:
    """Return the complete lines among the first 64 KiB, without empty ones."""
    return _head(path)[0]


def _head(path: str) -> tuple[list[str], int]:
    """Return the complete lines among the first 64 KiB without empty ones, and how many empty ones come first."""
    with _open(path) as stream:
        raw = _read(stream, path, 1 << 16)
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"{path}: the text is UTF-16, by its first bytes {raw[:2].hex(' ')}; expected UTF-8: save it as that, or "
            "convert it (iconv -f UTF-16 -t UTF-8)"
        )
    text = raw.decode("utf-8", errors="replace").removeprefix("\ufeff")
    lines = text.splitlines()
    if len(text) >= 1 << 16 and len(lines) > 1:
        lines.pop()
    kept = [line for line in lines if line.strip()]
    return kept, lines.index(kept[0]) if kept else 0


def looks_like_adjacency(path: str) -> bool:
    """Return whether a ``.txt`` holds lists of integers; refuse one that could also be a table."""
    lines = head(path)
    if not lines or not all(re.fullmatch(r"[0-9 ]+", line.strip()) for line in lines[:100]):
        return False
    widths = {len(line.split()) for line in lines[:100]}
    if len(lines) > 1 and (widths == {3} or widths == {4}):
        raise DataError(
            f"{path}: every line holds {widths.pop()} integers: a table, or lists of items? "
            f"Name the format, csv (with delimiter ' ') or adjacency: {ways_to_set('format')}"
        )
    return True


def sniff(path: str, options: ReadOptions, *, inter: bool = False) -> Layout:
    """Find delimiter, column names and header line."""
    lines, empty = _head(path)
    if not lines:
        raise DataError(f"{path}: the file is empty")
    delimiter = options.delimiter or ("\t" if inter else _delimiter(lines[0], path))
    quoted = not inter and delimiter != "::"
    fields = next(csv.reader([lines[0]], delimiter=delimiter)) if quoted else lines[0].split(delimiter)
    fields = [field.strip() for field in fields]
    if inter:
        return replace(_inter_layout(path, fields, options, delimiter), empty=empty)
    numeric = any(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", field) for field in fields)
    if options.columns is not None or (numeric and not _names_columns(fields, options)):
        names = options.columns or DEFAULT_COLUMNS
        if len(names) < len(fields):
            names = (*names, *(f"column{i + 1}" for i in range(len(names), len(fields))))
        return Layout(delimiter, tuple(names[: len(fields)]), has_header=False, quoted=quoted, empty=empty)
    return Layout(delimiter, tuple(fields), has_header=True, quoted=quoted, empty=empty)


def _names_columns(fields: list[str], options: ReadOptions) -> bool:
    """Return whether a first line names a column of users and one of items, by the given or the usual names."""
    lower = {field.lower() for field in fields}
    given = {"user": options.user, "item": options.item}
    return all(name in fields if name else not lower.isdisjoint(USUAL_NAMES[role]) for role, name in given.items())


def _delimiter(line: str, path: str) -> str:
    if "::" in line:
        return "::"
    counts = {mark: line.count(mark) for mark in ("\t", ",", ";", "|", " ")}
    best = max(counts, key=lambda mark: (mark != " ", counts[mark]) if counts[mark] else (False, 0))
    if not counts[best]:
        raise DataError(
            f"{path}: no delimiter found in the first line {line[:80]!r}; name it: {ways_to_set('delimiter')}"
        )
    return best


def _inter_layout(path: str, fields: list[str], options: ReadOptions, delimiter: str) -> Layout:
    untyped = [field for field in fields if ":" not in field]
    if untyped:
        raise DataError(f"{path}: .inter header field {untyped[0]!r} has no type; expected name:token or name:float")
    names = [field.rpartition(":")[0] for field in fields]
    chosen = choose_columns(names, options, path).values()
    for name, field in zip(names, fields, strict=True):
        if name in chosen and field.endswith("_seq"):
            raise DataError(f"{path}: column {field!r} holds sequences; expected one value per row")
    return Layout(delimiter, tuple(names), has_header=True, quoted=False)


def read_delimited(path: str, options: ReadOptions, *, inter: bool = False) -> InteractionLog:
    """Read a delimited file into a log; every row has the columns of the first."""
    layout = sniff(path, options, inter=inter)
    roles = choose_columns(layout.columns, options, path)
    builder = LogBuilder(roles, path, options, text=True, found=layout.columns)
    bad_rows: list[Any] = []

    def keep(row: Any) -> str:
        bad_rows.append(row)
        return "error"

    double = layout.delimiter == "::"
    try:
        with _open(path) as stream:
            reader = arrow_csv.open_csv(
                pa.PythonFile(_Replacing(stream), mode="r") if double else stream,
                arrow_csv.ReadOptions(
                    block_size=1 << 23,
                    use_threads=False,
                    column_names=list(layout.columns),
                    skip_rows=layout.empty + int(layout.has_header),
                ),
                arrow_csv.ParseOptions(
                    delimiter=_UNIT if double else layout.delimiter,
                    quote_char='"' if layout.quoted else False,
                    invalid_row_handler=keep,
                ),
                arrow_csv.ConvertOptions(
                    include_columns=list(dict.fromkeys(roles.values())),
                    column_types=dict.fromkeys(layout.columns, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            for batch in reader:
                builder.add(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise _explained(path, error, bad_rows, layout) from error
    return builder.finish()


def _explained(path: str, error: Exception, bad_rows: list[Any], layout: Layout) -> DataError:
    if bad_rows:
        row = bad_rows[0]
        number = f"line {row.number}" if row.number is not None else "a line"
        return DataError(
            f"{path}, {number}: {row.actual_columns} columns where the first line has {row.expected_columns}: "
            f"{row.text[:80]!r} (delimiter {layout.delimiter!r})"
        )
    if "Empty CSV" in str(error):
        return DataError(f"{path}: no rows after the header")
    return DataError(f"{path}: cannot be read as delimited text: {error}")


class _Replacing(io.RawIOBase):
    """A byte stream with every ``::`` replaced; a pair split between two blocks is found."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._held, self._ready, self._ended = stream, b"", b"", False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, fewer only at the end: Arrow takes a short read for a block of its own."""
        parts = [self._ready]
        length = len(self._ready)
        while not self._ended and (size < 0 or length < size):
            parts.append(self._next())
            length += len(parts[-1])
        joined = b"".join(parts)
        size = length if size < 0 else size
        self._ready = joined[size:]
        return joined[:size]

    def _next(self) -> bytes:
        block = self._stream.read(BLOCK)
        self._ended = not block
        data = (self._held + block).replace(b"::", _UNIT.encode())
        self._held = b":" if block and data.endswith(b":") else b""
        return bytes(data[: len(data) - len(self._held)])


def read_adjacency(path: str) -> InteractionLog:
    """Read lines ``user item item ...`` of non-negative integers; a user without items adds no rows."""
    users, items, line = [], [], 0
    for block in _line_blocks(path):
        ids, counts = _parse_lists(block, path, line)
        line += block.count(b"\n")
        starts = np.cumsum(counts) - counts
        is_item = np.ones(len(ids), dtype=bool)
        is_item[starts] = False
        users.append(np.repeat(ids[starts], counts - 1))
        items.append(ids[is_item])
    if not sum(len(part) for part in items):
        raise DataError(f"{path}: no rows")
    return InteractionLog(IdColumn(np.concatenate(users)), IdColumn(np.concatenate(items)), source=path)


def _line_blocks(path: str) -> Iterator[bytes]:
    rest = b""
    with _open(path) as stream:
        while block := _read(stream, path, BLOCK):
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield whole + newline
    if rest.strip():
        yield rest


def _parse_lists(block: bytes, path: str, line: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all ids of a block int64[t] and how many each non-empty line holds int64[l]."""
    raw = np.frombuffer(block, dtype=np.uint8)
    space = (raw == 32) | ((raw >= 9) & (raw <= 13))
    digit = (raw >= 48) & (raw <= 57)
    bad = np.flatnonzero(~(space | digit))
    if len(bad):
        at = int(bad[0])
        token = block[at:].split(None, 1)[0].decode("utf-8", errors="replace")[:40]
        problem = f"negative id {token!r}" if token.startswith("-") else f"expected integers, got {token!r}"
        raise DataError(f"{path}, line {line + block[:at].count(10) + 1}: {problem}")
    before = np.concatenate(([True], space[:-1]))
    starts = np.flatnonzero(~space & before)
    ends = np.flatnonzero(space & ~before) if space[-1] else np.append(np.flatnonzero(space & ~before), len(raw))
    long = np.flatnonzero(ends - starts > 18)
    if len(long):
        at = int(starts[long[0]])
        raise DataError(
            f"{path}, line {line + block[:at].count(10) + 1}: id {block[at : ends[long[0]]].decode()[:40]} is too large"
        )
    lines_before = np.searchsorted(np.flatnonzero(raw == 10), starts)
    counts = np.bincount(lines_before)
    ids = np.fromstring(block.decode("ascii"), dtype=np.int64, sep=" ")
    return ids, counts[counts > 0].astype(np.int64)


def _read(stream: Any, path: str, size: int) -> bytes:
    try:
        return bytes(stream.read(size))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _open(path: str) -> Any:
    try:
        return pa.input_stream(path, compression="detect", buffer_size=BLOCK)
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error}") from error
