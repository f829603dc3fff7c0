"""The study folder: where each part lies, and whether an existing one may be continued.

    study.yaml                        the configuration; relative data paths are looked up as at the command line
    data/                             the prepared data (memory-mapped store)
    teacher/                          run folder of the teacher
    students/<name>/seed<k>/          run folder of each student
    tuning/<name>/                    trials of each student (:mod:`fastkd.cli.tuning`)
    facts.json                        sizes of the data, the ceiling of planted data
    results.json, report.html         written again after every command

A run folder holds what the trainer writes, ``run.yaml`` (what was trained) and, once tested, ``test.json``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastkd.cli.config import differences, stored_study
from fastkd.cli.records import is_finished, load_record
from fastkd.core.config import from_mapping, read_yaml, to_mapping, to_yaml
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.core.files import write_text
from fastkd.models import ModelConfig
from fastkd.presets import StudyConfig

TEACHER = "teacher"
_SHARED = ("name", "data", "teacher", "teacher_files", "student", "evaluation")
"""Parts of a study that all its runs have in common and that may not change within a folder."""

_COST_ONLY = ("device", "checkpoint_every", "memory_budget_mb")
"""Options that never change a result, wherever they stand. The states that a teacher keeps are what HetComp learns."""


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """``run.yaml``: what a run folder holds, and where its study lies (relative to the run folder)."""

    student: str
    seed: int | None
    model: ModelConfig
    study: str
    definition: Mapping[str, Any] = field(default_factory=dict)


def student_folder(study: Path, name: str, seed: int) -> Path:
    """Return the run folder of a student."""
    return study / "students" / name / f"seed{seed}"


def open_study(config: StudyConfig, folder: Path) -> StudyConfig:
    """Make the study folder, or continue one; returns the configuration now in force (also in study.yaml).

    A continued folder may gain methods, seeds and published figures. A change of what its runs share, or of a
    method that has runs, is refused with the keys that differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "study.yaml").is_file():
        config = _merge(stored_study(folder), config, folder)
    elif any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and holds no study.yaml; give another --folder")
    write_text(folder / "study.yaml", to_yaml(config))
    return config


def _merge(old: StudyConfig, new: StudyConfig, folder: Path) -> StudyConfig:
    before, after = to_mapping(old), to_mapping(new)
    changed = [
        d for part in _SHARED for d in differences(_results_only(before[part]), _results_only(after[part]), part)
    ]
    for name in old.method_names():
        if name in old.tuned or any((folder / "students" / name).glob("seed*")):
            for part in ("methods", "tuned"):
                if name in before[part] and name in after[part]:
                    changed += differences(before[part][name], after[part][name], f"{part}.{name}")
    if changed:
        raise ConfigError(f"{folder} was made with other values: {'; '.join(changed)}. Give another --folder")
    return dataclasses.replace(
        new,
        methods={**old.methods, **new.methods},
        tuned={**old.tuned, **new.tuned},
        seeds=tuple(dict.fromkeys((*old.seeds, *new.seeds))),
        published=new.published or old.published,
        description=new.description or old.description,
    )


def _results_only(value: Any) -> Any:
    """Return ``value`` without the options that never change a result."""
    if isinstance(value, Mapping):
        return {k: _results_only(v) for k, v in value.items() if k not in _COST_ONLY}
    return value


def write_run_info(run: Path, info: RunInfo) -> None:
    """Write ``run.yaml``, or refuse a folder whose run was defined otherwise."""
    if (run / "run.yaml").is_file():
        changed = differences(plain(read_run_info(run).definition), plain(info.definition))
        if changed:
            raise ConfigError(
                f"{run} was made with other values: {'; '.join(changed)}. Delete it or give another --folder"
            )
        return
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / "run.yaml", to_yaml(info))


def read_run_info(run: Path) -> RunInfo:
    """Return what a run folder holds."""
    if not run.is_dir():
        raise CheckpointError(f"no such run folder: {run}")
    if not (run / "run.yaml").is_file():
        hint = " (a study folder; its runs are in teacher/ and students/)" if (run / "study.yaml").is_file() else ""
        raise CheckpointError(f"{run} is no run folder: it holds no run.yaml{hint}")
    return from_mapping(RunInfo, read_yaml(run / "run.yaml"), path=str(run / "run.yaml"))


def study_of(run: Path) -> Path:
    """Return the study folder of a run."""
    return (run / read_run_info(run).study).resolve()


def finished_runs(study: Path) -> list[Path]:
    """Return the tested run folders, teacher first, then by student and seed."""
    seeds = sorted((study / "students").glob("*/seed*"), key=lambda p: (p.parent.name, int(p.name[4:])))
    return [run for run in (study / TEACHER, *seeds) if is_finished(run)]


def is_current(run: Path, info: RunInfo) -> bool:
    """Return whether ``run`` is finished and was defined as ``info`` says; a changed definition is refused."""
    if not is_finished(run):
        return False
    changed = differences(plain(load_record(run).definition), plain(info.definition))
    if changed:
        raise ConfigError(f"{run} was made with other values: {'; '.join(changed)}. Delete it or give another --folder")
    return True


def plain(value: Any) -> Any:
    """Return ``value`` as JSON would give it back, for comparison."""
    return json.loads(json.dumps(value, default=str))
