"""Teachers that a study does not train: a run folder of another study, vectors, or lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastkd.cli.folders import study_of
from fastkd.cli.runs import load_run
from fastkd.core.errors import TeacherError
from fastkd.data import Dataset, open_store
from fastkd.models import ModelTeacher, Teacher, load_teacher


def file_teacher(files: Sequence[str], dataset: Dataset) -> Teacher:
    """Return the teacher in ``files``: one run folder, or what :func:`fastkd.models.load_teacher` reads.

    A run folder must stem from the same data, split included: a teacher that trained on this study's test
    items would leak them.
    """
    paths = [Path(f) for f in files]
    if len(paths) == 1 and paths[0].is_dir():
        theirs = open_store(study_of(paths[0]) / "data")
        if theirs.content_hash() != dataset.content_hash():
            raise TeacherError(
                f"the teacher {paths[0]} was trained on other data or another split: "
                f"{theirs.content_hash()} there, {dataset.content_hash()} here"
            )
        return ModelTeacher(load_run(paths[0], dataset))
    return load_teacher(paths, num_users=dataset.num_users, num_items=dataset.num_items)
