"""The on-disk store: a folder of ``.npy`` arrays and a ``manifest.json``, opened memory-mapped.

The manifest carries the format version, shape, dtype, size and blake2b checksum of every array, the content
hash, the name and the provenance. Nothing is pickled. A store is written beside its place and renamed, so a
folder of that name is always complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError, DataError
from fastkd.core.files import sync_folder
from fastkd.core.interactions import Interactions, id_dtype
from fastkd.core.manifest import check_file, read_manifest
from fastkd.data.dataset import Dataset, IdMap
from fastkd.data.reading import Reading
from fastkd.data.sequences import UserSequences
from fastkd.data.splits import PARTS

FORMAT = "fastkd-store"
VERSION = 1
MANIFEST = "manifest.json"
SEQUENCE = "train.sequence"
"""The training items in the order of time, parallel to ``train.indices``; absent where no order is known."""
_BLOCK = 1 << 24


def save_store(
    dataset: Dataset, folder: Path | str, *, provenance: Mapping[str, Any] | None = None, overwrite: bool = False
) -> Path:
    """Write ``dataset`` as a store and return its folder.

    ``provenance``: plain values kept in the manifest. An existing folder is refused; with ``overwrite`` it is replaced
    if it is a store (anything else is never deleted).
    """
    target = Path(folder)
    check_target(target, overwrite=overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex[:12]}.tmp"
    temporary.mkdir()
    try:
        _write(dataset, temporary, provenance or {})
        _swap(temporary, target, overwrite=overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def check_target(folder: Path | str, *, overwrite: bool = False) -> None:
    """Refuse what :func:`save_store` would refuse to write to, before there is anything to write."""
    target = Path(folder)
    if not target.exists() or not any(target.iterdir() if target.is_dir() else [target]):
        return
    if not is_store(target):
        raise DataError(f"{target} exists and is not a store; only a store is replaced: name another folder")
    if not overwrite:
        raise DataError(f"{target} exists; overwrite=True replaces it, on the command line --overwrite")


def open_store(folder: Path | str, *, verify: bool = True) -> Dataset:
    """Open a store memory-mapped; pages are read on use, and writing to the arrays never reaches the file.

    ``verify``: check the checksum of every array (reads each once) and that every id is in range; without it only
    the manifest, sizes, shapes and dtypes are checked. A missing, truncated, corrupt or foreign file is a
    ``DataError`` that names it.
    """
    root = Path(folder)
    manifest = _read_manifest(root)
    arrays = {name: _open_array(root, name, entry, verify) for name, entry in manifest["arrays"].items()}
    try:
        parts = [_part(root, name, manifest, arrays, verify) for name in PARTS]
        users = _id_map(manifest["users"], arrays, "users")
        items = _id_map(manifest["items"], arrays, "items")
        name = str(manifest["name"])
        held = manifest.get("reading")  # absent from stores of data that was not read, and from older ones
        reading = None if held is None else from_mapping(Reading, held)
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{root / MANIFEST}: incomplete or malformed manifest: {error!r}") from error
    order = arrays.get(SEQUENCE)
    sequences = None if order is None else UserSequences(parts[0].indptr, order)
    if verify and order is not None and len(order) and not (order.min() >= 0 and order.max() < parts[0].num_items):
        raise DataError(f"{root / SEQUENCE}.npy holds items outside [0, {parts[0].num_items})")
    return Dataset(parts[0], parts[1], parts[2], users, items, name, sequences, reading)


def store_provenance(folder: Path | str) -> dict[str, Any]:
    """Return what the store's manifest says about where the data came from."""
    return dict(_read_manifest(Path(folder))["provenance"])


def is_store(folder: Path | str) -> bool:
    """Return whether ``folder`` holds a store's manifest (of any version)."""
    try:
        _read_manifest(Path(folder), any_version=True)
    except DataError:
        return False
    return True


def _write(dataset: Dataset, folder: Path, provenance: Mapping[str, Any]) -> None:
    parts = (dataset.train, dataset.valid, dataset.test)
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in zip(PARTS, parts, strict=True):
        arrays[f"{name}.indptr"], arrays[f"{name}.indices"] = part.indptr, part.indices
    if dataset.sequences is not None:
        arrays[SEQUENCE] = dataset.sequences.items
    ids = {}
    for name, mapping in (("users", dataset.users), ("items", dataset.items)):
        identity = mapping.originals.dtype.kind == "i" and np.array_equal(mapping.originals, np.arange(len(mapping)))
        ids[name] = {"kind": "identity" if identity else "array", "count": len(mapping)}
        if not identity:
            arrays[name] = mapping.originals
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": dataset.name,
        "num_users": dataset.num_users,
        "num_items": dataset.num_items,
        **ids,
        "arrays": {name: _write_array(folder, name, array) for name, array in arrays.items()},
        "content_hash": {name: part.content_hash() for name, part in zip(PARTS, parts, strict=True)},
        "provenance": dict(provenance),
        **({} if dataset.reading is None else {"reading": to_mapping(dataset.reading)}),
    }
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _write_array(folder: Path, name: str, array: NDArray[Any]) -> dict[str, Any]:
    path = folder / f"{name}.npy"
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": path.stat().st_size,
        "blake2b": checksum(path, "blake2b"),
    }


def checksum(path: Path, algorithm: str) -> str:
    """Return the hex digest of a file, read in blocks; blake2b has 32 hex digits here."""
    digest = hashlib.blake2b(digest_size=16) if algorithm == "blake2b" else hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _swap(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Move the finished folder to its place; an old store steps aside first and goes last."""
    old = temporary.with_suffix(".old")
    if overwrite and target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        check_target(target, overwrite=overwrite)  # another process was first
        raise
    sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _read_manifest(root: Path, *, any_version: bool = False) -> dict[str, Any]:
    path = root / MANIFEST
    manifest = read_manifest(path, kind=FORMAT, version=None if any_version else VERSION, error=DataError)
    missing = [
        k for k in ("name", "num_users", "num_items", "arrays", "content_hash", "provenance") if k not in manifest
    ]
    if missing and not any_version:
        raise DataError(f"{path}: manifest lacks {', '.join(missing)}")
    return manifest


def _open_array(root: Path, name: str, entry: Any, verify: bool) -> NDArray[Any]:
    path = root / f"{name}.npy"
    if (
        Path(name).name != name
        or not isinstance(entry, dict)
        or not {"bytes", "shape", "dtype", "blake2b"} <= set(entry)
    ):
        raise DataError(f"{root / MANIFEST}: malformed entry for array {name!r}")
    check_file(path, entry["bytes"], entry["blake2b"], error=DataError, verify=verify)
    try:
        # copy-on-write: writable for torch, the file stays as it is
        array = np.load(path, mmap_mode="c" if 0 not in entry["shape"] else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a readable .npy array: {error}") from error
    if list(array.shape) != entry["shape"] or array.dtype.str != entry["dtype"]:
        raise DataError(
            f"{path}: {array.dtype.str}{list(array.shape)}, the manifest says {entry['dtype']}{entry['shape']}"
        )
    return np.asarray(array)


def _part(
    root: Path, name: str, manifest: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], verify: bool
) -> Interactions:
    indptr, indices = arrays[f"{name}.indptr"], arrays[f"{name}.indices"]
    users, items = int(manifest["num_users"]), int(manifest["num_items"])
    good = (
        indptr.dtype == np.int64
        and indptr.shape == (users + 1,)
        and indices.dtype == id_dtype(items)
        and indices.ndim == 1
    )
    if not good or indptr[0] != 0 or indptr[-1] != len(indices):
        raise DataError(
            f"{root / name}.indptr.npy: does not fit {users} users, {items} items and {len(indices)} entries"
        )
    if verify:
        _validate(root / f"{name}.indices.npy", indptr, indices, items)
    return Interactions(indptr, indices, items, {"hash": str(manifest["content_hash"][name])})


def _validate(path: Path, indptr: NDArray[np.int64], indices: NDArray[Any], items: int) -> None:
    """Apply the rules of ``Interactions`` in blocks of rows, so that memory stays bounded."""
    if (indptr[1:] < indptr[:-1]).any():
        raise DataError(f"{path}: row pointers decrease")
    start = 0
    while start < len(indptr) - 1:
        end = int(np.searchsorted(indptr, indptr[start] + (1 << 22), side="right")) - 1
        end = min(max(end, start + 1), len(indptr) - 1)
        try:
            Interactions.from_csr(indptr[start : end + 1] - indptr[start], indices[indptr[start] : indptr[end]], items)
        except DataError as error:
            raise DataError(f"{path}, rows from {start}: {error}") from error
        start = end


def _id_map(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], name: str) -> IdMap:
    return IdMap.identity(int(entry["count"])) if entry["kind"] == "identity" else IdMap(arrays[name])
