"""What the files of a data set were when it was made, so that a changed one is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastkd.core.errors import DataError
from fastkd.data.parts import NAMES
from fastkd.data.readers import resolve
from fastkd.data.store import MANIFEST, checksum, is_store


def record_files(path: Path | str) -> dict[str, dict[str, Any]]:
    """Return size, time of change and BLAKE2b of a file, or of each part of a folder, by name."""
    return {file.name: {**_stamp(file), "blake2b": checksum(file, "blake2b")} for file in _files(resolve(path))}


def changed_files(path: Path | str, record: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    """Return the names whose content is no longer what ``record`` says, files gone or new among them.

    Empty where ``path`` itself is gone, or without a record. A file is read only if its time of change is another.
    """
    if record is None:
        return []
    try:
        now = {file.name: file for file in _files(resolve(path))}
    except DataError:
        return []
    return sorted(now.keys() ^ record.keys()) + [n for n in sorted(now.keys() & record) if _differs(now[n], record[n])]


def _files(path: Path) -> list[Path]:
    """Return the files that are read: of a store its manifest, which has their checksums; of a folder its parts."""
    if not path.is_dir():
        return [path]
    if is_store(path):
        return [path / MANIFEST]
    return sorted(p for p in path.iterdir() if p.is_file() and p.name.split(".")[0] in NAMES)


def _stamp(file: Path) -> dict[str, int]:
    status = file.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _differs(file: Path, old: Mapping[str, Any]) -> bool:
    stamp = _stamp(file)
    if stamp == {name: old[name] for name in stamp}:
        return False
    return (stamp["bytes"], checksum(file, "blake2b")) != (old["bytes"], old["blake2b"])
