"""Checkpoints: safetensors files and a JSON manifest with their digests; complete or absent, never half.

Layout of ``checkpoints/``::

    step-000000001200/manifest.json, student.safetensors, optimizer.safetensors, ...
    last -> step-000000001200
    best -> step-000000000800

A checkpoint is written into a hidden folder beside, synced, renamed, and only then do ``last`` and ``best`` (symbolic
links, replaced atomically) point to it. Folders that neither name points to are removed last. So whatever
instant the process dies at, both names lead to complete checkpoints. No file is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.capability import version_of
from fastkd.core.errors import CheckpointError
from fastkd.core.files import sync_folder
from fastkd.core.manifest import check_file
from fastkd.core.manifest import read_manifest as manifest_of
from fastkd.training.tensor_file import read_tensors, write_chunks, write_tensors

FORMAT = "fastkd-checkpoint"
VERSION = 1
MANIFEST = "manifest.json"
NAMES = ("last", "best")
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Identity:
    """What a checkpoint belongs to: the configuration that decides the result, and the data."""

    config: Mapping[str, Any]
    data_hash: str

    @property
    def config_hash(self) -> str:
        """Hash of the configuration, independent of the order of its keys."""
        return _digest(self.config)


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint: named tensors per file, and JSON state."""

    tensors: Mapping[str, Mapping[str, Tensor | NDArray[Any]]]
    state: Mapping[str, Any]
    identity: Identity
    folder: Path | None = field(default=None, compare=False)


def write_checkpoint(root: Path, checkpoint: Checkpoint, *, step: int, names: Iterable[str] = ("last",)) -> Path:
    """Write ``checkpoint`` under ``root`` and let ``names`` point to it; return its folder.

    Raises ``CheckpointError`` when the disk is full or refuses; what was there before stays loadable.
    """
    root.mkdir(parents=True, exist_ok=True)
    hidden = root / f".new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        hidden.mkdir()
        _write_files(hidden, checkpoint)
        folder = _publish(hidden, root, step)
        for name in names:
            point(root / name, folder)
    except OSError as error:
        shutil.rmtree(hidden, ignore_errors=True)
        raise CheckpointError(_write_problem(root, error)) from error
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    _prune(root)
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in ``folder`` (or that a name points to), every file checked against its digest.

    Raises ``CheckpointError`` naming the file that is missing, truncated, corrupt or not ours.
    """
    manifest = read_manifest(folder)
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for name, record in manifest["files"].items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{folder / MANIFEST} lists {name!r}, which is no safetensors file of its folder")
        check_file(folder / name, record["bytes"], record["blake2b"], error=CheckpointError)
        tensors[name.removesuffix(".safetensors")] = read_tensors(folder / name)
    identity = Identity(manifest["config"], manifest["data_hash"])
    return Checkpoint(tensors, manifest["state"], identity, folder)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of ``folder`` once its format, version and own digest are found right."""
    path = folder / MANIFEST
    manifest = manifest_of(path, kind=FORMAT, version=VERSION, error=CheckpointError)
    claimed = manifest.pop("checksum", None)
    if claimed != _digest(manifest):
        raise CheckpointError(f"{path} is corrupt: its content does not match its own checksum {claimed!r}")
    return manifest


def check_identity(found: Identity, wanted: Identity, folder: Path) -> None:
    """Raise ``CheckpointError`` with both hashes and the differing keys unless the two are the same run."""
    if found.config_hash != wanted.config_hash:
        changes = "; ".join(_differences(found.config, wanted.config)[:8])
        raise CheckpointError(
            f"{folder} belongs to another configuration (hash {found.config_hash}, this run has "
            f"{wanted.config_hash}): {changes}. Use another folder"
        )
    if found.data_hash != wanted.data_hash:
        raise CheckpointError(
            f"{folder} was trained on other data (hash {found.data_hash}, this run has {wanted.data_hash}). "
            "Use another folder"
        )


def _write_files(folder: Path, checkpoint: Checkpoint) -> None:
    records = {
        f"{name}.safetensors": asdict(write_tensors(folder / f"{name}.safetensors", tensors))
        for name, tensors in checkpoint.tensors.items()
        if tensors
    }
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": {package: version_of(package) for package in ("fastkd", "torch")},
        "config_hash": checkpoint.identity.config_hash,
        "data_hash": checkpoint.identity.data_hash,
        "config": checkpoint.identity.config,
        "files": records,
        "state": checkpoint.state,
    }
    manifest["checksum"] = _digest(manifest)
    text = json.dumps(manifest, indent=1, allow_nan=False).encode()
    write_chunks(folder / MANIFEST, iter([memoryview(text)]))
    sync_folder(folder)


def _publish(hidden: Path, root: Path, step: int) -> Path:
    """Rename the finished folder to its name; a step saved twice (before and after evaluation) gets a suffix."""
    folder, repeat = root / f"step-{step:012d}", 0
    while folder.exists():
        repeat += 1
        folder = root / f"step-{step:012d}-{repeat}"
    hidden.rename(folder)
    sync_folder(root)
    return folder


def point(name: Path, folder: Path) -> None:
    """Let the link ``name`` point to ``folder`` in one atomic step."""
    if name.is_dir() and not name.is_symlink():  # a run folder that was copied with its links followed
        name.rename(name.with_name(f"step-copied-{secrets.token_hex(4)}"))
    link = name.with_name(f".link-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        link.symlink_to(folder.name, target_is_directory=True)
        link.replace(name)
    except BaseException:
        link.unlink(missing_ok=True)
        raise
    sync_folder(name.parent)


def _prune(root: Path) -> None:
    """Remove what no name points to; a leftover that cannot be removed is tried again at the next checkpoint."""
    kept = {(root / name).resolve() for name in NAMES}
    for path in root.iterdir():
        if path.name.startswith((".new-", "step-")) and path.resolve() not in kept:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name.startswith(".link-"):
            path.unlink(missing_ok=True)


def _write_problem(root: Path, error: OSError) -> str:
    intact = "the previous checkpoint is intact"
    if error.errno in _FULL:
        free = shutil.disk_usage(root).free
        return f"disk full while writing a checkpoint to {root} ({free} bytes free); {intact}"
    return f"cannot write a checkpoint to {error.filename or root}: {error.strerror or error}; {intact}"


def _digest(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{path}.{k}" if path else str(k))]
    return [] if old == new else [f"{path} is {old!r} there and {new!r} here"]
