"""Public data sets: where they are, what they allow, and a careful download.

A file is streamed to a temporary name, its checksum compared, its archive unpacked without leaving the
folder, and only then put in place. Where the publisher states no checksum, the first download records one
and later downloads must match it.
"""

from __future__ import annotations

import http.client
import json
import shutil
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fastkd.core.errors import DataError
from fastkd.core.files import atomic_path, write_text
from fastkd.core.registry import Registry
from fastkd.data.config import DataConfig
from fastkd.data.store import checksum

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, bytes in all or None)."""
CHECKSUMS = "checksums.json"
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Source:
    """One data set on its publisher's host.

    ``files``: local name -> URL. ``checksums``: local name -> ``algorithm:hex``; a file without one is
    recorded on first use. ``data``: what to read, relative to the folder, after ``.zip`` files are unpacked.
    ``config``: how to read it.
    """

    name: str
    title: str
    licence: str
    files: dict[str, str]
    data: str
    checksums: dict[str, str] = field(default_factory=dict)
    config: DataConfig = field(default_factory=DataConfig)


@dataclass(frozen=True)
class Fetched:
    """A data set on disk.

    ``config`` reads it; ``recorded``: files without a published checksum, whose own was recorded on first use.
    """

    folder: Path
    config: DataConfig
    recorded: tuple[str, ...]


SOURCES: Registry[Source] = Registry("data source")
"""Name -> source; add one with ``SOURCES.add(name, Source(...))``."""

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_GROUPLENS_TERMS = (
    "GroupLens terms: research use, no redistribution without permission, no commercial use; "
    "cite Harper and Konstan 2015"
)
_RATINGS = DataConfig(min_rating=4.0, user_core=10, item_core=10)


def _movielens(name: str, md5: str, data: str, config: DataConfig) -> None:
    SOURCES.add(
        name,
        Source(
            name,
            f"MovieLens {name.removeprefix('ml-')}",
            _GROUPLENS_TERMS,
            {f"{name}.zip": f"{_GROUPLENS}/{name}.zip"},
            f"{name}/{data}",
            {f"{name}.zip": f"md5:{md5}"},
            config,
        ),
    )


_movielens("ml-100k", "0e33842e24a9c977be4e0107933c0723", "u.data", replace(_RATINGS, format="csv", delimiter="\t"))
_movielens("ml-1m", "c4d9eecfca2ab87c1945afe126590906", "ratings.dat", replace(_RATINGS, format="movielens"))
_movielens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3", "ratings.csv", replace(_RATINGS, format="csv"))

_LIGHTGCN = "https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data/gowalla"
SOURCES.add(
    "gowalla",
    Source(
        "gowalla",
        "Gowalla check-ins, 10-core, the split of LightGCN",
        "no licence stated; research use",
        {"train.txt": f"{_LIGHTGCN}/train.txt", "test.txt": f"{_LIGHTGCN}/test.txt"},
        ".",
        config=DataConfig(format="adjacency", keep_ids=True, split="column"),
    ),
)
_AMAZON = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
SOURCES.add(
    "amazon-music-instruments",
    Source(
        "amazon-music-instruments",
        "Amazon reviews 1996-2014, Musical Instruments, ratings only",
        "no licence stated; research use; cite McAuley et al. 2015",
        {"ratings.csv": f"{_AMAZON}/ratings_Musical_Instruments.csv"},
        "ratings.csv",
        config=DataConfig(format="csv", user_core=5, item_core=5),
    ),
)


def fetch(name: str, folder: Path | str, *, progress: Progress | None = None, timeout: float = 60.0) -> Fetched:
    """Download a registered data set into ``folder/name`` and return where it is; what is already there is kept.

    Raises ``DataError`` naming the URL and both checksums when they differ, ``ConfigError`` for an unknown name.
    """
    return fetch_source(SOURCES.get(name), folder, progress=progress, timeout=timeout)


def fetch_source(
    source: Source, folder: Path | str, *, progress: Progress | None = None, timeout: float = 60.0
) -> Fetched:
    """Download a data set that need not be registered; see :func:`fetch`."""
    root = Path(folder) / source.name
    root.mkdir(parents=True, exist_ok=True)
    known = _read_recorded(root)
    recorded = []
    for local, url in source.files.items():
        expected = source.checksums.get(local) or known.get(local)
        path = root / local
        if not path.exists() or (expected and _digest(path, expected) != expected):
            _download(url, path, expected, progress, timeout)
        if local not in source.checksums:
            recorded.append(local)
            known[local] = known.get(local) or _digest(path, "sha256:")
            write_text(root / CHECKSUMS, json.dumps(known, indent=1, sort_keys=True))
        if path.suffix == ".zip":
            safe_unzip(path, root)
    data = root / source.data
    if not data.exists():
        raise DataError(f"{root}: {source.data!r} is not among the fetched files")
    config = replace(source.config, path=data, name=source.config.name or source.name)
    return Fetched(root, config, tuple(recorded))


def safe_unzip(archive: Path, folder: Path) -> None:
    """Unpack ``archive`` below ``folder``.

    A member that would leave the folder, or is a link, is refused before anything is written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            root = folder.resolve()
            for member in opened.infolist():
                if "\\" in member.filename or not (root / member.filename).resolve().is_relative_to(root):
                    raise DataError(f"{archive}: member {member.filename!r} would be written outside {folder}; refused")
                if (member.external_attr >> 16) & 0o170000 == 0o120000:
                    raise DataError(f"{archive}: member {member.filename!r} is a link; refused")
            for member in opened.infolist():
                if not member.is_dir():
                    _extract(opened, member, folder / member.filename)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DataError(f"{archive}: not a readable zip archive: {error}") from error


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if path.is_file() and path.stat().st_size == member.file_size:
        return
    with opened.open(member) as source, atomic_path(path) as temporary, temporary.open("wb") as target:
        shutil.copyfileobj(source, target, _BLOCK)


def _download(url: str, path: Path, expected: str | None, progress: Progress | None, timeout: float) -> None:
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response, atomic_path(path) as temporary:
            length = response.headers.get("Content-Length")
            total, done = int(length) if length and length.isdigit() else None, 0
            with temporary.open("wb") as file:
                while block := response.read(_BLOCK):
                    file.write(block)
                    done += len(block)
                    if progress:
                        progress(path.name, done, total)
            if total is not None and done != total:
                raise DataError(f"{url}: {done} of {total} bytes came; try again")
            if expected and (got := _digest(temporary, expected)) != expected:
                raise DataError(f"{url}: checksum is {got}, expected {expected}; the file was not kept")
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise DataError(f"{url}: download failed: {error}") from error


def _digest(path: Path, like: str) -> str:
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{checksum(path, algorithm)}"


def _read_recorded(root: Path) -> dict[str, str]:
    path = root / CHECKSUMS
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}; remove it to record the checksums anew") from error
    return {str(k): str(v) for k, v in values.items()}
