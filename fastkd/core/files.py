"""Atomic files: a reader sees the old content or the new one, never a part of either."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it onto ``path``.

    The temporary name keeps the suffix of ``path``, so writers that look at it are not misled. Whoever writes it, the
    file may be read by whom the umask says. On any error (an interrupt included) it is removed and ``path`` stays as
    it was.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        mode = _usual_mode(temporary)
        yield temporary
        # safetensors, for one, renames a file of its own into the place, which nobody but its owner may read.
        if temporary.stat().st_mode != mode:
            temporary.chmod(stat.S_IMODE(mode))
        _sync(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path | str, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, atomically; line ends are kept."""
    write_bytes(path, content.encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, where the system can sync a folder."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _usual_mode(path: Path) -> int:
    """Return the mode of a file made at ``path``; the umask itself cannot be asked without changing it."""
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return mode


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
