"""``read_interactions``: files and data frames to an :class:`InteractionLog`."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fastkd.core.errors import DataError, did_you_mean
from fastkd.data.columns import LogBuilder, choose_columns
from fastkd.data.log import Format, IdColumn, InteractionLog, ReadOptions, ways_to_set
from fastkd.data.parts import extension, find_parts, join_parts
from fastkd.data.text import looks_like_adjacency, read_adjacency, read_delimited

EXTENSIONS: dict[str, Format] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".data": "csv",
    ".dat": "csv",
    ".inter": "inter",
    ".npz": "npz",
}


def read_interactions(source: Any, *, options: ReadOptions | None = None) -> InteractionLog:
    """Read a file, a folder of ``train.*``/``valid.*``/``test.*`` files, or a pandas/polars/Arrow frame.

    Relative paths are looked up in the working directory, then in the folder that the environment
    variable ``FASTKD_DATA`` names. Times as text are numbers or ISO dates; a zone (``Z``, ``+02:00``) counts, a date
    without one is in UTC. Raises ``DataError`` naming the file, column, row and value.
    """
    options = options or ReadOptions()
    if isinstance(source, InteractionLog):
        return source
    if not isinstance(source, (str, os.PathLike)):
        return _read_frame(source, options)
    path = resolve(source)
    if path.is_dir():
        return _read_folder(path, options)
    kind = options.format if options.format != "auto" else _format_of(path)
    name = str(path)
    if kind == "parquet":
        return _read_parquet(name, options)
    if kind == "npz":
        return _read_npz(name)
    if kind == "adjacency":
        return read_adjacency(name)
    if kind == "movielens" and options.delimiter is None:
        columns = options.columns or ("user", "item", "rating", "time")
        options = replace(options, delimiter="::", columns=columns)
    return read_delimited(name, options, inter=kind == "inter")


def resolve(source: str | os.PathLike[str]) -> Path:
    """Return an existing path, looked up in the working directory and then in ``$FASTKD_DATA``."""
    path = Path(source).expanduser()
    tried = (
        [path]
        if path.is_absolute() or "FASTKD_DATA" not in os.environ
        else [path, Path(os.environ["FASTKD_DATA"]) / path]
    )
    for candidate in tried:
        if candidate.exists():
            return candidate
    folder = tried[-1].parent
    near = did_you_mean(path.name, [p.name for p in folder.iterdir()]) if folder.is_dir() else ""
    raise DataError(f"no such file: {' nor '.join(str(p) for p in tried)}.{near}")


def _format_of(path: Path) -> Format:
    suffix = extension(path)
    if suffix == ".txt":
        return "adjacency" if looks_like_adjacency(str(path)) else "csv"
    if suffix not in EXTENSIONS:
        known = ", ".join([*EXTENSIONS, ".txt"])
        raise DataError(f"{path}: unknown extension {suffix!r}; known: {known}. Name it: {ways_to_set('format')}")
    return EXTENSIONS[suffix]


def _read_parquet(path: str, options: ReadOptions) -> InteractionLog:
    try:
        with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as file:
            found = file.schema_arrow.names
            roles = choose_columns(found, options, path)
            builder = LogBuilder(roles, path, options, text=False, found=found)
            for batch in file.iter_batches(batch_size=1 << 20, columns=list(dict.fromkeys(roles.values()))):
                builder.add(batch)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {error}") from error
    return builder.finish()


def _read_frame(frame: Any, options: ReadOptions) -> InteractionLog:
    """Read anything with ``columns`` and the Arrow stream protocol; only the used columns are converted."""
    source = f"{type(frame).__module__.split('.')[0]} {type(frame).__name__}"
    found = getattr(frame, "column_names", None)
    found = getattr(frame, "columns", None) if found is None else found
    if found is None or not hasattr(frame, "__arrow_c_stream__"):
        raise DataError(f"cannot read {type(frame).__name__}; expected a path, or a pandas, polars or Arrow table")
    keys = {str(name): name for name in found}  # pandas names columns by numbers too
    names = [str(name) for name in found]
    roles = choose_columns(names, options, source)
    wanted = [keys[name] for name in dict.fromkeys(roles.values())]
    builder = LogBuilder(roles, source, options, text=False, found=names)
    try:
        part = frame.select(wanted) if hasattr(frame, "select") else frame[wanted]
        for batch in pa.RecordBatchReader.from_stream(part):
            builder.add(batch)
    except pa.ArrowException as error:
        raise DataError(f"{source}: a column mixes types: {error}") from error
    return builder.finish()


def _read_npz(path: str) -> InteractionLog:
    """Read a scipy sparse matrix: row = user, column = item, value = rating unless all are 1."""
    from scipy import sparse

    try:
        with Path(path).open("rb") as file:
            matrix: Any = sparse.coo_array(sparse.load_npz(file))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = "it holds pickled objects, which are refused" if "allow_pickle" in str(error) else error
        raise DataError(f"{path}: not a readable scipy .npz: {reason}") from error
    if not matrix.nnz:
        raise DataError(f"{path}: no rows")
    if (matrix.data == 0).any():
        raise DataError(f"{path}: {int((matrix.data == 0).sum())} stored zero(s); call eliminate_zeros() before saving")
    rows, columns = matrix.row.astype(np.int64), matrix.col.astype(np.int64)
    for name, ids, count in (("row", rows, matrix.shape[0]), ("column", columns, matrix.shape[1])):
        if ids.min() < 0 or ids.max() >= count:
            raise DataError(f"{path}: {name} index {ids.min() if ids.min() < 0 else ids.max()} outside [0, {count})")
    rating = None if (matrix.data == 1).all() else matrix.data.astype(np.float64)
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    return InteractionLog(IdColumn(rows), IdColumn(columns), rating, source=path, shape=shape)


def _read_folder(folder: Path, options: ReadOptions) -> InteractionLog:
    """Read ``train.*``, ``valid.*`` and ``test.*`` of a folder; the file name becomes the split label."""
    files = find_parts(folder, [*EXTENSIONS, ".txt"], any_extension=options.format != "auto")
    options = replace(options, split=None)
    return join_parts({part: read_interactions(path, options=options) for part, path in files.items()}, str(folder))
