"""A model as files other systems can read: safetensors vectors, npy id maps, a JSON manifest.

Layout of an export folder::

    manifest.json                  format, shapes, and the name, size and hash of every file
    tables-<hash>.safetensors      "users" [U, D], "items" [N, D]; score = inner product
    user_ids-<hash>.npy            internal row -> original id (int64 or text)
    item_ids-<hash>.npy
    seen_indptr-<hash>.npy         optional: the items each user has seen, as CSR
    seen_indices-<hash>.npy

Files carry their content's hash in their names and the manifest is renamed into place last, so an
export that is written over an older one is at every instant either the old or the new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from fastkd.core.errors import CheckpointError, DataError
from fastkd.core.files import atomic_path, write_text
from fastkd.core.interactions import Interactions
from fastkd.core.manifest import check_file, digest_of, read_manifest
from fastkd.data.dataset import IdMap
from fastkd.models.protocol import Tables

FORMAT = "fastkd-export"
VERSION = 1
_MANIFEST = "manifest.json"
_OURS = re.compile(
    r"\.?(tables|user_ids|item_ids|seen_indptr|seen_indices)(-[0-9a-f]{12}|\.\S+)\.(npy|safetensors)|\.manifest\.\S+\.tmp\.json"
)


@dataclass(frozen=True, eq=False)
class Export:
    """What an export folder holds; ``metadata`` is the caller's own (JSON values)."""

    tables: Tables
    users: IdMap
    items: IdMap
    seen: Interactions | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def save_export(export: Export, folder: Path | str) -> Path:
    """Write an export folder, replacing an older export there; return the folder.

    Raises ``DataError`` for sizes that disagree, ids that are neither integers nor text, and a folder that holds
    something else.
    """
    _check(export)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    stale = _files_of_older(target)
    files = {name: _store(target, name, suffix, write) for name, (suffix, write) in _writers(export).items()}
    users, items = export.tables.users, export.tables.items
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "num_users": len(users),
        "num_items": len(items),
        "dim": int(items.shape[1]),
        "dtype": str(items.dtype).removeprefix("torch."),
        "score": "inner product",
        "files": files,
        "metadata": dict(export.metadata),
    }
    write_text(target / _MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    for file in stale - {str(entry["file"]) for entry in files.values()}:
        (target / file).unlink(missing_ok=True)
    return target


def load_export(folder: Path | str, *, device: str | torch.device = "cpu", verify: bool = True) -> Export:
    """Read an export folder; nothing in it is executed.

    ``verify`` compares every file with its hash in the manifest (one read of each file).

    Raises ``CheckpointError`` for no or a foreign manifest, and a file that is missing, truncated or altered.
    """
    source = Path(folder)
    manifest = _read_manifest(source)
    paths = {name: _checked(source, entry, verify) for name, entry in manifest["files"].items()}
    try:
        vectors = safetensors.torch.load_file(paths["tables"], device=str(device))
        arrays = {name: np.load(path, allow_pickle=False) for name, path in paths.items() if name != "tables"}
        tables = Tables(vectors["users"], vectors["items"])
        users, items = IdMap(arrays["user_ids"]), IdMap(arrays["item_ids"])
        seen = None
        if "seen_indptr" in arrays:
            seen = Interactions.from_csr(arrays["seen_indptr"], arrays["seen_indices"], len(items))
    except (KeyError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"export {source} cannot be read: {error}") from error
    export = Export(tables, users, items, seen, manifest.get("metadata", {}))
    _check(export)
    return export


def _writers(export: Export) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Return name -> (suffix, what writes the file)."""
    tensors = {"users": export.tables.users, "items": export.tables.items}
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if packed["users"].untyped_storage().data_ptr() == packed["items"].untyped_storage().data_ptr():
        # A graph model's tables are two views of one propagation; safetensors refuses shared memory.
        packed["users"] = packed["users"].clone()
        packed["items"] = packed["items"].clone()
    arrays = {"user_ids": _plain_ids(export.users, "user"), "item_ids": _plain_ids(export.items, "item")}
    if export.seen is not None:
        arrays |= {"seen_indptr": export.seen.indptr, "seen_indices": export.seen.indices}
    return {
        "tables": (".safetensors", partial(safetensors.torch.save_file, packed)),
        **{name: (".npy", partial(_save_npy, array)) for name, array in arrays.items()},
    }


def _store(folder: Path, name: str, suffix: str, write: Callable[[Path], None]) -> dict[str, Any]:
    """Write one file under the name its content gives it; return its manifest entry."""
    staged = folder / f"{name}.staged{suffix}"
    with atomic_path(staged) as temporary:
        write(temporary)
    digest = digest_of(staged)
    final = folder / f"{name}-{digest[:12]}{suffix}"
    staged.replace(final)
    return {"file": final.name, "bytes": final.stat().st_size, "blake2b": digest}


def _save_npy(array: NDArray[Any], path: Path) -> None:
    np.save(path, array, allow_pickle=False)


def _plain_ids(ids: IdMap, kind: str) -> NDArray[Any]:
    originals = ids.originals
    if originals.dtype.kind == "O":
        bad = [value for value in originals.tolist() if not isinstance(value, str)]
        if bad:
            raise DataError(f"{kind} id {bad[0]!r} is neither an integer nor text")
        originals = originals.astype(np.str_)
    if originals.dtype.kind not in "iuU":
        raise DataError(f"{kind} ids have dtype {originals.dtype}; integers and text can be exported")
    return originals


def _check(export: Export) -> None:
    users, items = export.tables.users, export.tables.items
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        raise DataError(f"tables have shapes {tuple(users.shape)} and {tuple(items.shape)}; need [U, D] and [N, D]")
    if (len(export.users), len(export.items)) != (len(users), len(items)):
        raise DataError(
            f"id maps hold {len(export.users)} users and {len(export.items)} items, "
            f"the tables {len(users)} and {len(items)}"
        )
    seen = export.seen
    if seen is not None and (seen.num_users, seen.num_items) != (len(users), len(items)):
        raise DataError(f"seen is {seen!r}, the tables hold {len(users)} users and {len(items)} items")


def _files_of_older(folder: Path) -> set[str]:
    """Return the files that exports (interrupted ones too) left in the folder; refuse one of something else."""
    names = {path.name for path in folder.iterdir()}
    ours = {name for name in names if _OURS.fullmatch(name)}
    if _MANIFEST in names:
        try:
            _read_manifest(folder)
        except CheckpointError as error:
            raise DataError(f"{folder} holds something else than an export: {error}") from error
    elif names - ours:
        raise DataError(f"{folder} is not empty and no export (it holds {min(names - ours)!r}); give a new folder")
    return ours


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    manifest = read_manifest(path, kind=FORMAT, version=VERSION, error=CheckpointError)
    files = manifest.get("files")
    if not isinstance(files, dict) or not {"tables", "user_ids", "item_ids"} <= set(files):
        raise CheckpointError(f"{path} lists no tables, user_ids and item_ids")
    return manifest


def _checked(folder: Path, entry: Any, verify: bool) -> Path:
    """Return the path of a listed file after checking name, size and hash."""
    name = entry.get("file") if isinstance(entry, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"the manifest in {folder} names the file {name!r}, which is not inside it")
    path = folder / name
    check_file(path, entry.get("bytes"), entry.get("blake2b"), error=CheckpointError, verify=verify)
    return path
