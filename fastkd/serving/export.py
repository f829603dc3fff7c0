"""A model as files other systems can read: safetensors vectors or weights, npy id maps, a JSON manifest.

Layout of an export folder::

    manifest.json                  format, shapes, and the name, size and hash of every file
    tables-<hash>.safetensors      "users" [U, D], "items" [N, D]; score = inner product
    weights-<hash>.safetensors     the model's parameters
    user_ids-<hash>.npy            internal row -> original id (int64 or text)
    item_ids-<hash>.npy
    seen_indptr-<hash>.npy         the items each user has seen, as CSR
    seen_indices-<hash>.npy
    tower-<hash>.pt2, scorer-<hash>.pt2, faiss-<hash>.index     see :mod:`fastkd.serving.student`

There are tables or weights or both, and the two id maps; the rest is optional. Files carry their content's hash in
their names and the manifest is renamed into place last, so an export that is written over an older one is at every
instant either the old or the new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import CheckpointError, DataError
from fastkd.core.files import write_text
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import IdMap
from fastkd.models.protocol import Tables
from fastkd.serving._folder import (
    FORMAT,
    INNER_PRODUCT,
    MANIFEST,
    PAIRS,
    VERSION,
    Part,
    checked,
    files_of_older,
    manifest_of,
    store,
)

_TENSORS = ("tables", "weights")
_ARRAYS = ("user_ids", "item_ids", "seen_indptr", "seen_indices")


@dataclass(frozen=True, eq=False)
class Export:
    """What an export folder holds; ``metadata`` is the caller's own (JSON values).

    ``tables``: None for a model that scores pairs, and where they are left out. ``weights``: parameters by name, or
    None. ``score``: how the model scores, ``"inner product"`` or ``"pairs"``, and ``dim``: the width of its vectors;
    None takes what the tables say, and pairs where there are none.
    """

    tables: Tables | None
    users: IdMap
    items: IdMap
    seen: Interactions | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] | None = None
    score: str | None = None
    dim: int | None = None


def save_export(export: Export, folder: Path | str, *, extras: Mapping[str, Part] | None = None) -> Path:
    """Write an export folder, replacing an older export there; return the folder.

    ``extras``: further files by name, as :func:`fastkd.serving.export_student` makes them.

    Raises ``DataError`` for sizes that disagree, ids that are neither integers nor text, and a folder that holds
    something else.
    """
    _check(export)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    stale = files_of_older(target)
    files = {name: store(target, name, part) for name, part in {**_parts(export), **(extras or {})}.items()}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "num_users": len(export.users),
        "num_items": len(export.items),
        **_shape(export),
        "files": files,
        "metadata": dict(export.metadata),
    }
    write_text(target / MANIFEST, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    for file in stale - {str(entry["file"]) for entry in files.values()}:
        (target / file).unlink(missing_ok=True)
    return target


def load_export(folder: Path | str, *, device: str | torch.device = "cpu", verify: bool = True) -> Export:
    """Read an export folder but for its programs and its index; nothing in it is executed.

    ``verify`` compares every file with its hash in the manifest (one read of each file).

    Raises ``CheckpointError`` for no or a foreign manifest, and a file that is missing, truncated or altered.
    """
    source = Path(folder)
    manifest = manifest_of(source)
    paths = {
        name: checked(source, entry, verify)
        for name, entry in manifest["files"].items()
        if name in (*_TENSORS, *_ARRAYS)
    }
    try:
        tensors = {n: safetensors.torch.load_file(paths[n], device=str(device)) for n in _TENSORS if n in paths}
        arrays = {name: np.load(path, allow_pickle=False) for name, path in paths.items() if name in _ARRAYS}
        vectors = tensors.get("tables")
        tables = None if vectors is None else Tables(vectors["users"], vectors["items"])
        users, items = IdMap(arrays["user_ids"]), IdMap(arrays["item_ids"])
        seen = None
        if "seen_indptr" in arrays:
            seen = Interactions.from_csr(arrays["seen_indptr"], arrays["seen_indices"], len(items))
    except (KeyError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"export {source} cannot be read: {error}") from error
    about, weights = manifest.get("metadata", {}), tensors.get("weights")
    export = Export(tables, users, items, seen, about, weights, manifest.get("score"), manifest.get("dim"))
    _check(export)
    return export


def _shape(export: Export) -> dict[str, Any]:
    """Return what the manifest says of the scores."""
    if export.tables is None:
        said = {} if export.dim is None else {"dim": export.dim}
        return {**said, "score": export.score or PAIRS}
    dtype = str(export.tables.items.dtype).removeprefix("torch.")
    return {"dim": int(export.tables.items.shape[1]), "dtype": dtype, "score": INNER_PRODUCT}


def _parts(export: Export) -> dict[str, Part]:
    """Return the files by name."""
    arrays = {"user_ids": _plain_ids(export.users, "user"), "item_ids": _plain_ids(export.items, "item")}
    if export.seen is not None:
        arrays |= {"seen_indptr": export.seen.indptr, "seen_indices": export.seen.indices}
    tensors: dict[str, Mapping[str, Tensor]] = {}
    if export.tables is not None:
        tensors["tables"] = {"users": export.tables.users, "items": export.tables.items}
    if export.weights is not None:
        tensors["weights"] = export.weights
    return {
        **{name: Part(".safetensors", partial(safetensors.torch.save_file, _apart(t))) for name, t in tensors.items()},
        **{name: Part(".npy", partial(_save_npy, array)) for name, array in arrays.items()},
    }


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each with memory of its own, which safetensors asks for.

    A graph model's tables, for one, are two views of one propagation.
    """
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    places = [tensor.untyped_storage().data_ptr() for tensor in packed.values()]
    shared = {place for place in places if places.count(place) > 1}
    return {n: t.clone() if t.untyped_storage().data_ptr() in shared else t for n, t in packed.items()}


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
    if export.tables is None and export.weights is None:
        raise DataError("an export needs tables or weights, got neither")
    if export.score not in (None, INNER_PRODUCT, PAIRS):
        raise DataError(f"score must be {INNER_PRODUCT!r} or {PAIRS!r}, got {export.score!r}")
    if export.tables is not None:
        users, items = export.tables.users, export.tables.items
        if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
            raise DataError(f"tables have shapes {tuple(users.shape)} and {tuple(items.shape)}; need [U, D] and [N, D]")
        if export.score == PAIRS:
            raise DataError(f"score is {PAIRS!r}, which has no tables; with tables it is {INNER_PRODUCT!r}, or None")
        if export.dim not in (None, items.shape[1]):
            raise DataError(f"dim is {export.dim}, the tables are {items.shape[1]} wide; leave it None")
        if (len(export.users), len(export.items)) != (len(users), len(items)):
            raise DataError(
                f"id maps hold {len(export.users)} users and {len(export.items)} items, "
                f"the tables {len(users)} and {len(items)}"
            )
    seen = export.seen
    if seen is not None and (seen.num_users, seen.num_items) != (len(export.users), len(export.items)):
        raise DataError(f"seen is {seen!r}, the id maps hold {len(export.users)} users and {len(export.items)} items")
