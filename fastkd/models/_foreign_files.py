"""Vectors under ids of their own, brought into a data set's order. Nothing is unpickled."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fastkd.core.errors import ConfigError, TeacherError
from fastkd.data.dataset import IdMap
from fastkd.models._tensors import floating_tensor

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")

Missing = Literal["refuse", "zero", "mean"]


@dataclass(frozen=True, kw_only=True)
class VectorsConfig:
    """Vectors in a file, one row each.

    ``vectors``: ``.safetensors``, ``.npy``, or anything else as a raw float32 matrix of ``width`` columns. ``tensor``:
    its name in a ``.safetensors`` file; None where there is but one floating matrix. ``ids``: whose row is whose, by
    the ids of the source: ``.json`` (``{id: row}``, or a list with an id for each row), ``.npy`` (an id for each row),
    or text (``id<tab>row`` lines, or the id of each row on a line). None: the tensor ``ids`` of the ``.safetensors``
    file if it has one, else id i is row i. Ids that the data lacks are passed over. ``missing``: what to do with ids
    of the data that have no row: ``"refuse"``, a vector of ``"zero"``, or the ``"mean"`` of those there are.
    """

    vectors: Path
    tensor: str | None = None
    width: int | None = None
    ids: Path | None = None
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if self.width is not None and self.width < 1:
            raise ConfigError(f"width must be at least 1, got {self.width}")
        if self.tensor is not None and Path(self.vectors).suffix.lower() != ".safetensors":
            raise ConfigError(f"tensor={self.tensor!r} is for a .safetensors file: leave it out for {self.vectors}")
        if self.missing not in ("refuse", "zero", "mean"):
            raise ConfigError(f"missing={self.missing!r} is not allowed. One of: refuse, zero, mean")


def read_vectors(config: VectorsConfig, wanted: IdMap, *, folder: Path, what: str) -> tuple[Tensor, Tensor]:
    """Return the vectors Float32[n, D] of the ids ``wanted``, in their order, and Bool[n]: which of them the file has.

    ``folder``: what relative paths start from. ``what``: "item" or "user", for messages. Raises ``TeacherError`` that
    names the file and the id, row or value that does not fit.
    """
    path = folder / config.vectors
    matrix, own_ids = _matrix(config, path)
    rows = _rows(config, folder, own_ids, wanted, len(matrix), what)
    absent = np.flatnonzero(rows < 0)
    if len(absent) and config.missing == "refuse":
        first = wanted.originals[absent[0]].item()
        raise TeacherError(
            f"{path} has no vector for {len(absent)} of {len(wanted)} {what}s, first: {what} {first!r}; "
            "add them, or set missing to zero or mean"
        )
    if len(absent) == len(wanted):
        raise TeacherError(f"{path} has no vector for any of the {len(wanted)} {what}s: are the ids those of the data?")
    given = matrix[torch.from_numpy(np.maximum(rows, 0))]
    vectors = given.float()
    known = torch.from_numpy(rows >= 0)
    bad = (~torch.isfinite(vectors)).any(1) & known
    if bool(bad.any()):
        at = int(bad.nonzero()[0, 0])
        value = given[at][~torch.isfinite(vectors[at])][0].item()
        raise TeacherError(
            f"{path}: the vector of {what} {wanted.originals[at].item()!r} (row {rows[at]}) holds {value}; "
            "all values must be finite in float32"
        )
    if len(absent):
        filled = vectors[known].mean(0) if config.missing == "mean" else torch.zeros(vectors.shape[1])
        vectors[~known] = filled
    return vectors, known


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file."""
    check_readable(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise TeacherError(f"{path} is damaged or no safetensors file: {error}") from error


def check_readable(path: Path) -> None:
    """Refuse a file that is not there, and pickles."""
    if not path.is_file():
        raise TeacherError(f"teacher file {path} does not exist")
    if path.suffix.lower() in PICKLES:
        raise TeacherError(
            f"{path} is a pickle, which may run any program when read. Convert it where you trust it: "
            "load it with weights_only=True and write its tensors with safetensors.torch.save_file"
        )


def _matrix(config: VectorsConfig, path: Path) -> tuple[Tensor, Tensor | None]:
    """Return the matrix of the file, and the ids beside it."""
    check_readable(path)
    suffix, ids = path.suffix.lower(), None
    if suffix == ".safetensors":
        tensors = read_tensors(path)
        ids = tensors.get("ids")
        matrix = _named(tensors, config.tensor, path)
    elif suffix == ".npy":
        array = _npy(path)
        if array.dtype.kind != "f":
            raise TeacherError(f"{path} holds dtype {array.dtype}; floating values are needed")
        matrix = floating_tensor(array)
    else:
        matrix = _raw(path, config.width)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise TeacherError(f"{path} holds a tensor of shape {list(matrix.shape)}; a matrix [rows, width] is needed")
    if config.width not in (None, matrix.shape[1]):
        raise TeacherError(f"{path} holds vectors of width {matrix.shape[1]}, but width={config.width} was given")
    return matrix, ids


def _named(tensors: dict[str, Tensor], name: str | None, path: Path) -> Tensor:
    matrices = [key for key, value in tensors.items() if value.is_floating_point() and value.ndim == 2]
    if name is None and len(matrices) == 1:
        return tensors[matrices[0]]
    if name not in tensors:
        said = "give tensor, the name of the one to read" if name is None else f"there is no tensor {name!r}"
        raise TeacherError(f"{path}: {said}; it holds {', '.join(sorted(tensors)) or 'nothing'}")
    if not tensors[name].is_floating_point():
        raise TeacherError(f"{path}: tensor {name!r} holds {tensors[name].dtype}; floating values are needed")
    return tensors[name]


def _npy(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise TeacherError(f"{path} is damaged or no plain .npy file: {error}") from error
    return array


def _raw(path: Path, width: int | None) -> Tensor:
    if width is None:
        raise TeacherError(f"{path} is read as raw float32: give width, the number of values of a vector")
    size = path.stat().st_size
    if size % (4 * width) or size == 0:
        raise TeacherError(f"{path} has {size} bytes, no multiple of {4 * width}: no float32 vectors of width={width}")
    return torch.from_numpy(np.fromfile(path, dtype=np.float32).reshape(-1, width))


def _rows(
    config: VectorsConfig, folder: Path, own_ids: Tensor | None, wanted: IdMap, count: int, what: str
) -> NDArray[np.int64]:
    """Return the row of each wanted id Int64[n], -1 where there is none."""
    text = wanted.originals.dtype.kind == "U"
    if config.ids is None and own_ids is None:
        return _own_rows(wanted, count, text=text, path=folder / config.vectors, what=what)
    if config.ids is not None:
        source, pairs = folder / config.ids, _pairs(folder / config.ids, count)
    else:
        assert own_ids is not None
        if own_ids.shape != (count,) or own_ids.is_floating_point():
            raise TeacherError(
                f"{folder / config.vectors}: tensor ids must hold one integer for each of {count} rows, "
                f"is {own_ids.dtype} {list(own_ids.shape)}"
            )
        source, pairs = folder / config.vectors, list(zip(own_ids.tolist(), range(len(own_ids)), strict=True))
    rows: dict[str, int] = {}
    for given, row in pairs:
        key = str(given)
        if not 0 <= row < count:
            raise TeacherError(f"{source}: {what} {key!r} has row {row}, outside the {count} rows of {config.vectors}")
        if rows.setdefault(key, row) != row:
            raise TeacherError(f"{source}: {what} {key!r} has two rows, {rows[key]} and {row}")
    return np.array([rows.get(str(i), -1) for i in wanted.originals.tolist()], dtype=np.int64)


def _own_rows(wanted: IdMap, count: int, *, text: bool, path: Path, what: str) -> NDArray[np.int64]:
    """Return ids as their own rows."""
    originals = wanted.originals
    if text:
        # 7 is row 7; 07 and +7 are other ids of the source.
        name = next((i for i in originals.tolist() if not re.fullmatch("0|-?[1-9][0-9]*", i)), None)
        if name is not None:
            raise TeacherError(
                f"{path} says not which row is which {what}, and {what}s have names here, first: {name!r}; give ids"
            )
        # A number too long for int64 is no row.
        originals = np.array([int(i) if len(i) < 19 else -1 for i in originals.tolist()], dtype=np.int64)
    return np.where((originals >= 0) & (originals < count), originals, -1).astype(np.int64)


def _pairs(path: Path, count: int) -> list[tuple[Any, int]]:
    """Return (id, row) of an id file for ``count`` rows."""
    check_readable(path)
    if path.suffix.lower() == ".npy":
        ids = _npy(path)
        if ids.ndim != 1:
            raise TeacherError(f"{path} holds ids of shape {list(ids.shape)}; an id for each row is needed: [{count}]")
        return _in_order(path, ids.tolist(), count)
    try:
        content = path.read_text(encoding="utf-8")
        # an object as its pairs: a dict would keep the last of one key's rows
        values = json.loads(content, object_pairs_hook=tuple) if path.suffix.lower() == ".json" else None
    except (OSError, ValueError) as error:
        raise TeacherError(f"{path} is damaged or of another format: {error}") from error
    if path.suffix.lower() != ".json":
        return _lines(path, content.splitlines(), count)
    if isinstance(values, list):
        return _in_order(path, values, count)
    if not isinstance(values, tuple) or not all(type(row) is int for _, row in values):
        raise TeacherError(f"{path}: expected {{id: row}} with whole numbers, or a list of ids")
    return list(values)


def _in_order(path: Path, ids: list[Any], count: int) -> list[tuple[Any, int]]:
    """Return (id, row) of ids in the order of the rows."""
    # One id too few or too many may be missing anywhere: every vector behind it would be another's.
    if len(ids) != count:
        raise TeacherError(
            f"{path} holds {len(ids)} ids for {count} rows; give each row its id, "
            "or name the rows: {id: row} in .json, id<tab>row in text"
        )
    return [(value, row) for row, value in enumerate(ids)]


def _lines(path: Path, lines: list[str], count: int) -> list[tuple[str, int]]:
    """Return (id, row) of lines ``id<tab>row``, or of lines that are ids."""
    cells = [line.split("\t") for line in lines]
    if all(len(cell) == 1 for cell in cells):
        return _in_order(path, lines, count)
    pairs = []
    for number, cell in enumerate(cells, 1):
        if len(cell) != 2 or not re.fullmatch(r"\s*\d{1,18}\s*", cell[1]):
            raise TeacherError(f"{path}, line {number}: expected id<tab>row, got {lines[number - 1]!r}")
        pairs.append((cell[0], int(cell[1])))
    return pairs
