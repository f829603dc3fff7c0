"""The files of an export folder: written under the hash of their content, found through the manifest, checked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastkd.core.errors import CheckpointError, DataError
from fastkd.core.files import atomic_path
from fastkd.core.manifest import check_file, digest_of, read_manifest

FORMAT = "fastkd-export"
VERSION = 2
READS = (1, 2)
"""Versions that can be read: 1 always had vectors and had nothing beside them, the ids and what was seen."""
MANIFEST = "manifest.json"
INNER_PRODUCT, PAIRS = "inner product", "pairs"
"""How the model of an export scores, as its manifest says."""
OF_VECTORS = ("weights", "vectors", "tower", "faiss")
OF_PAIRS = ("weights", "scorer")
"""Parts that each kind of model has."""
_PART_OF = {"weights": "weights", "tables": "vectors", "tower": "tower", "faiss": "faiss", "scorer": "scorer"}
"""File -> the part that it is written for; ids and what was seen always are."""
_OURS = re.compile(
    r"\.?(tables|weights|user_ids|item_ids|seen_indptr|seen_indices|tower|scorer|faiss)"
    r"(-[0-9a-f]{12}|\.\S+)\.(npy|safetensors|pt2|index)|\.manifest\.\S+\.tmp\.json"
)


@dataclass(frozen=True)
class Part:
    """A file to write: its suffix, what writes it, and what its manifest entry says beside name, size and hash."""

    suffix: str
    write: Callable[[Path], None]
    about: Mapping[str, Any] = field(default_factory=dict)


def store(folder: Path, name: str, part: Part) -> dict[str, Any]:
    """Write one file under the name its content gives it; return its manifest entry."""
    staged = folder / f"{name}.staged{part.suffix}"
    with atomic_path(staged) as temporary:
        part.write(temporary)
    digest = digest_of(staged)
    final = folder / f"{name}-{digest[:12]}{part.suffix}"
    staged.replace(final)
    return {**part.about, "file": final.name, "bytes": final.stat().st_size, "blake2b": digest}


def files_of_older(folder: Path) -> set[str]:
    """Return the files that exports (interrupted ones too) left in the folder; refuse one of something else."""
    names = {path.name for path in folder.iterdir()}
    ours = {name for name in names if _OURS.fullmatch(name)}
    if MANIFEST in names:
        try:
            manifest_of(folder)
        except CheckpointError as error:
            raise DataError(f"{folder} holds something else than an export: {error}") from error
    elif names - ours:
        raise DataError(f"{folder} is not empty and no export (it holds {min(names - ours)!r}); give a new folder")
    return ours


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return the manifest of an export folder."""
    path = folder / MANIFEST
    manifest = read_manifest(path, kind=FORMAT, version=None, error=CheckpointError)
    if manifest.get("version") not in READS:
        known = " and ".join(map(str, READS))
        raise CheckpointError(f"{path} has format version {manifest.get('version')!r}; this fastkd reads {known}")
    files = manifest.get("files")
    held = set(files) if isinstance(files, dict) else set()
    if not {"user_ids", "item_ids"} <= held or not {"tables", "weights"} & held:
        raise CheckpointError(f"{path} lists no tables or weights, user_ids and item_ids")
    return manifest


def path_of(folder: Path, name: str, *, verify: bool) -> Path:
    """Return the path of a part that the manifest of ``folder`` lists, checked."""
    manifest = manifest_of(folder)
    files = manifest["files"]
    if name not in files:
        held = f"the export {folder} holds no {name}; it holds {', '.join(sorted(files))}. "
        pairs = manifest.get("score") == PAIRS
        possible = OF_PAIRS if pairs else OF_VECTORS
        if _PART_OF[name] not in possible:
            kind = "scores pairs" if pairs else "ranks by an inner product"
            raise CheckpointError(f"{held}A model that {kind} cannot have it; possible parts: {', '.join(possible)}")
        parts = ",".join(p for file, p in _PART_OF.items() if p in possible and (file in files or file == name))
        raise CheckpointError(f"{held}With `fastkd export RUN --out {folder} --parts {parts}` it does")
    return checked(folder, files[name], verify)


def checked(folder: Path, entry: Any, verify: bool) -> Path:
    """Return the path of a listed file after checking name, size and hash."""
    name = entry.get("file") if isinstance(entry, dict) else None
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"the manifest in {folder} names the file {name!r}, which is not inside it")
    path = folder / name
    check_file(path, entry.get("bytes"), entry.get("blake2b"), error=CheckpointError, verify=verify)
    return path
