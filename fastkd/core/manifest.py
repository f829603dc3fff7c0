"""The manifest of a folder: a JSON file that names its format and version, and what each file must hold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fastkd.core.errors import FastKDError


def read_manifest(path: Path, *, kind: str, version: int | None, error: type[FastKDError]) -> dict[str, Any]:
    """Return the JSON object in ``path`` once its ``format`` is ``kind`` and its ``version`` the given one.

    ``version``: None takes any. Raises ``error`` naming the file and what it is instead.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise error(f"no {kind} in {path.parent}: cannot read {path}: {problem.strerror}") from problem
    except ValueError as problem:
        raise error(f"{path} is corrupt: not JSON ({problem})") from problem
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise error(f"{path} is not the manifest of a {kind}")
    if version is not None and manifest.get("version") != version:
        raise error(f"{path} has format version {manifest.get('version')!r}; this fastkd reads {version}")
    return manifest


def digest_of(path: Path, *, size: int = 16) -> str:
    """Return the blake2b digest of a file in hex, ``size`` bytes long."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=size)).hexdigest()


def check_file(path: Path, expected: Any, digest: Any, *, error: type[FastKDError], verify: bool = True) -> None:
    """Raise ``error`` naming ``path`` unless it has this size and, with ``verify``, this blake2b digest (hex)."""
    try:
        found = path.stat().st_size
        if found != expected:
            raise error(f"{path} holds {found} bytes, its manifest says {expected}: truncated or replaced")
        if not verify:
            return
        # The digest's length says how it was made; one of no legal length fits nothing.
        size = len(digest) // 2 if isinstance(digest, str) else 0
        made = digest_of(path, size=size) if 1 <= size <= 64 else None
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from problem
    if made is None or made != digest:
        raise error(f"{path} is corrupt: blake2b {str(made)[:16]}..., its manifest says {str(digest)[:16]}...")
