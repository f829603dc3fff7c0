"""The study runner: data once, the teacher once, every student for every seed; then the numbers side by side.

A study folder (layout: :mod:`fastkd.cli.folders`) can be continued at any time: finished runs are kept, an
interrupted one goes on from its checkpoint, further methods and seeds can be added later.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastkd.cli.exits import Interrupted
from fastkd.cli.folders import RunInfo, is_current, open_study, write_run_info
from fastkd.cli.progress import Display
from fastkd.cli.records import RunRecord, finite, save_record
from fastkd.cli.results import StudyResults, write_results
from fastkd.cli.runs import Room, do_run, ranking_rate, student_run, teacher_run, torch_device
from fastkd.cli.teachers import file_teacher, run_teacher
from fastkd.cli.tuning import check_tunable, tune_students, with_spaces
from fastkd.core.errors import ConfigError, DataError, TeacherError, did_you_mean
from fastkd.core.files import write_text
from fastkd.data import (
    Dataset,
    changed_files,
    dataset_summary,
    is_store,
    load_dataset,
    open_store,
    record_files,
    save_store,
    store_provenance,
    synthetic_dataset,
)
from fastkd.evaluation import evaluate
from fastkd.models import Tables, Teacher
from fastkd.presets import PLAIN, StudyConfig
from fastkd.training.signals import TrainingInterrupted, interrupt_on_terminate


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a study to do now; None takes everything. ``teacher=False`` trains plain students only.

    ``tune``: trials for each student before its runs, None for none.
    """

    methods: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    teacher: bool = True
    tune: int | None = None

    def command(self, folder: Path) -> str:
        """Return the command that does, or goes on with, this part of the study in ``folder``."""
        command = f"fastkd distill --folder {shlex.quote(str(folder))}"
        if self.methods == () or not self.teacher:
            role = "teacher" if self.teacher else "student"
            command = f"fastkd train --folder {shlex.quote(str(folder))} --role {role}"
        elif self.methods is not None:
            command += f" --methods {','.join(self.methods)}"
        command += f" --seeds {','.join(map(str, self.seeds))}" if self.seeds else ""
        return command + (f" --tune {self.tune}" if self.tune is not None else "")


def run_study(
    config: StudyConfig,
    folder: Path,
    *,
    selection: Selection | None = None,
    display: Display | None = None,
) -> StudyResults:
    """Do the selected runs of a study in ``folder`` and return the results of all its finished runs.

    Raises ``Interrupted`` on Ctrl-C or SIGTERM, with the command that goes on.
    """
    selection = selection or Selection()
    check_selection(config, selection)
    display = display or Display()
    config = open_study(_with_seeds(config, selection), folder)
    try:
        with interrupt_on_terminate(), display:
            dataset = prepare_data(config, folder, display)
            room = Room(dataset, config.evaluation, display)
            write_facts(config, folder, dataset)
            config = _do_runs(config, folder, room, selection)
    except (KeyboardInterrupt, TrainingInterrupted) as error:
        raise Interrupted(selection.command(folder)) from error
    return write_results(config, folder)


def _do_runs(config: StudyConfig, folder: Path, room: Room, selection: Selection) -> StudyConfig:
    """Train what is selected; return the study with what tuning chose."""
    methods = with_prerequisites(config, selection.methods)
    seeds = config.seeds if selection.seeds is None else selection.seeds
    if selection.tune is not None:
        check_tunable(config, folder, methods, selection.tune)
    room.display.plan(selection.teacher + len(methods) * (len(seeds) + (selection.tune or 0)))
    teacher = None
    if selection.teacher:
        teacher = ensure_teacher(config, folder, room)
        room.display.run_done()
    if selection.tune is not None:
        assert teacher is not None
        config = tune_students(config, folder, room, teacher, methods, selection.tune)
    for seed in seeds:
        for name in methods:
            do_run(student_run(config, folder, name, seed), room, None if name == PLAIN else teacher)
            room.display.run_done()
    return config


def ensure_teacher(config: StudyConfig, folder: Path, room: Room) -> Teacher:
    """Return the study's teacher: from its files, or trained (or kept) in ``teacher/``."""
    if config.teacher_files:
        teacher = file_teacher(config.teacher_files, room.dataset)
        _record_file_teacher(config, folder / "teacher", room, teacher)
        return teacher
    run = teacher_run(config, folder)
    do_run(run, room, None)
    device = torch_device(config.student.training.device)
    return run_teacher(run.folder, room.dataset, device, kept=run.training.keep_every is not None)


def _record_file_teacher(config: StudyConfig, run: Path, room: Room, teacher: Teacher) -> None:
    """Test a teacher from files once, as any other run."""
    definition = {"files": list(config.teacher_files), "fingerprint": teacher.fingerprint()}
    info = RunInfo(student="teacher", seed=None, model=config.student.model, study="..", definition=definition)
    if is_current(run, info):
        return
    write_run_info(run, info)
    evaluation = evaluate(teacher, room.dataset, "test", config=config.evaluation)
    if not any(evaluation.metrics.values()):
        room.display.say(
            "teacher: it ranks no item that anybody has in the test split. Lists that are to teach must not leave such "
            "items out: fastkd recommend --include-held-out"
        )
    tables = _tables_of(teacher)
    record = RunRecord(
        student="teacher",
        seed=None,
        metrics=evaluation.metrics,
        users_evaluated=evaluation.num_users_evaluated,
        users_excluded=evaluation.excluded_users,
        users_without_targets=evaluation.users_without_targets,
        parameters=tables.users.numel() + tables.items.numel() if tables else None,
        dim=tables.items.shape[1] if tables else None,
        users_per_second=ranking_rate(tables, room.dataset, max(config.evaluation.ks)) if tables else None,
        definition=definition,
    )
    save_record(run, record, evaluation)


def _tables_of(teacher: Teacher) -> Tables | None:
    try:
        return teacher.tables()
    except TeacherError:
        return None


def prepare_data(config: StudyConfig, folder: Path, display: Display) -> Dataset:
    """Return the study's data from its store, made on first use from the configured source.

    A source that has changed since is refused: the folder's runs share the old rows. One that is gone is not missed.
    """
    store, path = folder / "data", config.data.path
    if not is_store(store):
        with display.stage(f"data: {config.data.name or config.name}"):
            provenance = {} if path is None else {"files": record_files(path)}
            save_store(load_dataset(config.data), store, provenance=provenance)
    elif path is not None and (changed := changed_files(path, store_provenance(store).get("files"))):
        raise DataError(
            f"{path} is not what {store} was made from (other content: {', '.join(changed)}), and the runs in {folder} "
            f"are of the old rows. Give another --folder"
        )
    return open_store(store)


def write_facts(config: StudyConfig, folder: Path, dataset: Dataset) -> None:
    """Write ``facts.json`` once: sizes of the data and, for planted data, what the best ranking reaches."""
    file = folder / "facts.json"
    if file.is_file():
        return
    summary = dataset_summary(dataset)
    facts: dict[str, Any] = {"data": dataclasses.asdict(summary), "oracle": None}
    if config.data.synthetic is not None:
        made = synthetic_dataset(config.data.synthetic)
        if made.dataset.content_hash() == dataset.content_hash():
            tables = Tables(made.oracle.users, made.oracle.items)
            facts["oracle"] = dict(evaluate(tables, dataset, "test", config=config.evaluation).metrics)
    write_text(file, json.dumps(finite(facts), indent=2) + "\n")


def check_selection(config: StudyConfig, selection: Selection) -> None:
    """Refuse a method the study does not hold, naming the nearest one."""
    known = config.method_names()
    for name in selection.methods or ():
        if name not in known:
            raise ConfigError(f"unknown method {name!r}.{did_you_mean(name, known)} This study has: {', '.join(known)}")


def _with_seeds(config: StudyConfig, selection: Selection) -> StudyConfig:
    """Return the study with the selected seeds among its own."""
    return dataclasses.replace(config, seeds=tuple(dict.fromkeys((*config.seeds, *(selection.seeds or ())))))


def with_prerequisites(config: StudyConfig, methods: Sequence[str] | None) -> tuple[str, ...]:
    """Return the students to train (None: all) in the study's order, with those that others start from."""
    names = config.method_names()
    wanted = set(names if methods is None else methods)
    for name in reversed(names):
        entry = config.methods.get(name)
        if name in wanted and entry is not None and entry.warm_start is not None:
            wanted.add(entry.warm_start)
    return tuple(name for name in names if name in wanted)


def resolved(config: StudyConfig, selection: Selection) -> StudyConfig:
    """Return the study that a run with ``selection`` amounts to, for ``--dry-run``."""
    check_selection(config, selection)
    names = with_prerequisites(config, selection.methods)
    if selection.tune is not None:
        config = with_spaces(config, names)
    kept = {k: v for k, v in config.methods.items() if k in names}
    tuned = {k: v for k, v in config.tuned.items() if k in names}
    return dataclasses.replace(config, methods=kept, tuned=tuned, seeds=selection.seeds or config.seeds)
