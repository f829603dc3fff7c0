"""Teachers by their files: run folders, exports, checkpoints, vectors, lists; one, or several side by side."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from fastkd.cli.folders import study_of
from fastkd.cli.runs import load_run
from fastkd.core.errors import DataError, TeacherError, did_you_mean
from fastkd.data import Dataset, open_store
from fastkd.models import (
    EmbeddingTeacher,
    ModelTeacher,
    StoredTeacher,
    Teacher,
    TeacherGroup,
    TeacherTrajectory,
    load_foreign,
    load_lists,
    load_teacher,
)
from fastkd.models.foreign import is_foreign
from fastkd.models.list_files import LIST_SUFFIXES
from fastkd.serving import load_export
from fastkd.training.folder import RunFolder
from fastkd.training.result import read_result

DATA_HASH = "data_hash"
"""Key of an export's metadata: the content hash of the data that its model was trained on."""

_KINDS = (".safetensors", *LIST_SUFFIXES)


def file_teacher(files: Sequence[str], dataset: Dataset) -> Teacher:
    """Return the teacher in ``files``; several are a :class:`fastkd.models.TeacherGroup`.

    Each is a run folder; a folder that ``fastkd export`` wrote; a folder of checkpoints, vectors or lists, in the order
    of the numbers in their names (the last one finished); a YAML file or a folder with ``teacher.yaml``, which
    :func:`fastkd.models.load_foreign` reads; a file of lists in the data's original ids, which
    :func:`fastkd.models.load_lists` reads; or vectors in the data's order, which :func:`fastkd.models.load_teacher`
    reads, two ``.npy`` in a row being one teacher's users and items. A run and an export must stem from the same data,
    split included: a teacher that trained on this study's test items would leak them.
    """
    teachers = [_one(paths, dataset) for paths in _parts([Path(f) for f in files])]
    return teachers[0] if len(teachers) == 1 else TeacherGroup(teachers)


def run_teacher(
    run: Path, dataset: Dataset, device: str | torch.device = "cpu", *, kept: bool = False
) -> ModelTeacher | TeacherTrajectory:
    """Return the trained model of a run folder, after the states that the run kept before its best epoch.

    ``kept``: states are expected; a run that was trained without keeping any is refused.
    """
    finished = ModelTeacher(load_run(run, dataset).to(device))
    folder = RunFolder(run)
    files = _in_order(folder.trajectory)
    if kept and not files:
        raise TeacherError(
            f"keep_every asks for the teacher's earlier states, but {run} was trained without keeping any; "
            "delete it to train it anew, or leave keep_every out"
        )
    result = read_result(run)
    best = result.best_epoch if result is not None else None
    earlier = [f for f in files if best is None or _numbers(f)[-1] <= best]
    users, items = dataset.num_users, dataset.num_items
    states = [StoredTeacher(f, num_users=users, num_items=items, device=device) for f in earlier]
    return TeacherTrajectory([*states, finished]) if states else finished


def _parts(paths: list[Path]) -> Iterator[list[Path]]:
    """Cut the list into teachers: two ``.npy`` in a row are one."""
    at = 0
    while at < len(paths):
        pair = [p.suffix.lower() for p in paths[at : at + 2]] == [".npy", ".npy"]
        yield paths[at : at + (2 if pair else 1)]
        at += 2 if pair else 1


def _one(paths: list[Path], dataset: Dataset) -> Teacher:
    for path in paths:
        _check_exists(path)
    path = paths[0]
    if is_foreign(path):
        return load_foreign(path, dataset)
    if not path.is_dir():
        return _file(paths, dataset)
    if (path / "manifest.json").is_file():
        return _exported(path, dataset)
    if not (path / "run.yaml").is_file():
        checkpoints = _in_order(path)
        if checkpoints:
            return TeacherTrajectory([_stored(file, dataset) for file in checkpoints])
    theirs = open_store(study_of(path) / "data")
    _check_same_data(path, theirs.content_hash(), dataset)
    # Its own data: the hash leaves the order of time out, and SASRec makes users of it.
    return run_teacher(path, theirs)


def _check_exists(path: Path) -> None:
    if path.exists():
        return
    beside = [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []
    raise TeacherError(
        f"the teacher {path} does not exist.{did_you_mean(path.name, beside)} A teacher is a run folder, a folder of "
        "fastkd export, a folder of checkpoints, a teacher.yaml or its folder, one .safetensors (users, items), two "
        ".npy (users, then items), or lists, .parquet or .csv (user, item, rank, perhaps score)"
    )


def _file(paths: list[Path], dataset: Dataset) -> Teacher:
    if paths[0].suffix.lower() in LIST_SUFFIXES:
        return load_lists(paths[0], dataset.users, dataset.items)
    return load_teacher(paths, num_users=dataset.num_users, num_items=dataset.num_items)


def _stored(file: Path, dataset: Dataset) -> Teacher:
    if file.suffix.lower() in LIST_SUFFIXES:
        return _file([file], dataset)
    return StoredTeacher(file, num_users=dataset.num_users, num_items=dataset.num_items)


def _exported(folder: Path, dataset: Dataset) -> EmbeddingTeacher:
    """Return the vectors of an export, brought into the data's order by their ids."""
    export = load_export(folder)
    theirs = export.metadata.get(DATA_HASH)
    if theirs is not None:
        _check_same_data(folder, theirs, dataset)
    if export.tables is None:
        would = "its model scores pairs and has none; give its run folder"
        if export.score != "pairs":
            would = "give its run folder, or export with --parts vectors"
        raise TeacherError(f"the export {folder} holds no vectors to learn from; {would}")
    try:
        users = torch.from_numpy(export.users.encode(dataset.users.originals))
        items = torch.from_numpy(export.items.encode(dataset.items.originals))
    except DataError as error:
        raise TeacherError(f"the export {folder} lacks users or items of the data: {error}") from error
    return EmbeddingTeacher(export.tables.users[users], export.tables.items[items])


def _check_same_data(source: Path, theirs: str, dataset: Dataset) -> None:
    if theirs != dataset.content_hash():
        raise TeacherError(
            f"the teacher {source} was trained on other data or another split: "
            f"{theirs} there, {dataset.content_hash()} here"
        )


def _in_order(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder by the numbers in their names, then by name.

    Several of which one has no number are refused: its place among them would be a guess, and the last is the teacher.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in _KINDS] if folder.is_dir() else []
    without = sorted(f.name for f in files if not _numbers(f))
    if without and len(files) > 1:
        raise TeacherError(
            f"{without[0]} has no number, so its place among the others in {folder} is not known; "
            "give every name a number, such as that of its epoch, or give the file alone"
        )
    return sorted(files, key=lambda f: (_numbers(f), f.name))


def _numbers(file: Path) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", file.stem)]
