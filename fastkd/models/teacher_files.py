"""Teachers from files: vectors (.safetensors, two .npy) and ranked lists. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from fastkd.core.errors import TeacherError
from fastkd.core.files import atomic_path
from fastkd.data.dataset import IdMap
from fastkd.models._reading import check_sizes, readable
from fastkd.models._tensors import check_tables, floating_tensor
from fastkd.models.list_files import LIST_SUFFIXES, ListsConfig, load_lists
from fastkd.models.list_teacher import Short
from fastkd.models.protocol import Tables
from fastkd.models.teacher import EmbeddingTeacher, Teacher


def load_teacher(
    source: str | Path | Sequence[str | Path], *, num_users: int, num_items: int, short: Short = "refuse"
) -> Teacher:
    """Read a teacher of ``num_users`` x ``num_items`` from one file or a pair, in the data's own order.

    ``source``: a ``.safetensors`` file with matrices ``users`` [U, D] and ``items`` [N, D]; a pair of ``.npy``
    files (users, items); or a ``.parquet`` or ``.csv`` file with one row per list entry and the columns user, item,
    rank and perhaps score. Row i, and user or item i of a list, is the i-th of ``dataset.users.originals`` or
    ``dataset.items.originals``; lists in original ids are read by :func:`load_lists`. ``short`` is for lists, see
    :class:`ListTeacher`.

    Raises ``TeacherError`` that names the file and what in it does not fit.
    """
    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(p) for p in source]
    if len(paths) == 1 and paths[0].suffix.lower() in LIST_SUFFIXES:
        config = ListsConfig(path=paths[0], ids="rows", short=short)
        return load_lists(config, IdMap.identity(num_users), IdMap.identity(num_items))
    tables = read_tables(paths, num_users=num_users, num_items=num_items)
    return EmbeddingTeacher(tables.users, tables.items)


def read_tables(paths: Sequence[Path], *, num_users: int, num_items: int) -> Tables:
    """Read vectors from one ``.safetensors`` or two ``.npy`` files, checked as :func:`load_teacher` says."""
    kinds = [path.suffix.lower() for path in paths]
    if kinds == [".safetensors"]:
        users, items = _safetensors(paths[0])
    elif kinds == [".npy", ".npy"]:
        users, items = _npy(paths[0]), _npy(paths[1])
    else:
        named = ", ".join(map(str, paths)) or "no file"
        absent = [path for path in paths if not path.exists()]
        problem = f"{absent[0]} does not exist" if absent else f"cannot read a teacher from {named}"
        raise TeacherError(
            f"{problem}: give one .safetensors (users, items), two .npy (users, then items) "
            "or one .parquet or .csv (user, item, rank, score); --teacher of the command line also takes a run folder, "
            "a folder of fastkd export, and a teacher.yaml or its folder"
        )
    origin = " and ".join(map(str, paths))
    check_tables(users, items, origin)
    check_sizes(origin, (len(users), len(items)), (num_users, num_items))
    return Tables(users.float().contiguous(), items.float().contiguous())


def save_tables(path: str | Path, tables: Tables) -> None:
    """Write vectors as a ``.safetensors`` file that :func:`load_teacher` reads, atomically."""
    named = {"users": tables.users, "items": tables.items}
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in named.items()}, temporary)


def _safetensors(path: Path) -> tuple[Tensor, Tensor]:
    with readable(path):
        tensors = load_file(path)
    missing = [name for name in ("users", "items") if name not in tensors]
    if missing:
        raise TeacherError(
            f"teacher file {path} lacks {', '.join(missing)}; it holds {', '.join(sorted(tensors)) or 'nothing'}"
        )
    return tensors["users"], tensors["items"]


def _npy(path: Path) -> Tensor:
    with readable(path):
        array = np.load(path, allow_pickle=False)
    if array.dtype.kind != "f":
        raise TeacherError(f"teacher file {path} holds dtype {array.dtype}; floating values are needed")
    return floating_tensor(array)
