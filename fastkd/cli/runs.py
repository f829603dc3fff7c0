"""One run of a study: train (or go on, or skip), take the best checkpoint, open the test split once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal

from fastkd.cli.console import duration
from fastkd.cli.folders import RunInfo, is_current, read_run_info, student_folder, write_run_info
from fastkd.cli.progress import Display, metrics_text
from fastkd.cli.records import RunRecord, load_record, save_record
from fastkd.cli.training_progress import TrainingProgress
from fastkd.core.config import to_mapping
from fastkd.core.errors import CheckpointError
from fastkd.core.seeds import Seeds
from fastkd.data import Dataset
from fastkd.distillation import build_method
from fastkd.distillation.method import Method, Outlook
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import Recommender, Tables, Teacher, build_model, model_mapping
from fastkd.presets import PLAIN, StudyConfig
from fastkd.training import Trainer, TrainingConfig, TrainResult
from fastkd.training.checkpoint import read_checkpoint

_LATENCY_USERS = 1024
_LATENCY_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run to do: what it trains and where it goes. ``method`` is None for the teacher and the plain student.

    ``part``: what of the student's runs it is, where it is none of the study's seeds.
    """

    info: RunInfo
    folder: Path
    training: TrainingConfig
    method: str | None = None
    options: Mapping[str, Any] | None = None
    warm_start: Path | None = None
    part: str | None = None

    @property
    def label(self) -> str:
        """How the run is called on the screen."""
        part = self.part or (None if self.info.seed is None else f"seed {self.info.seed}")
        return f"{self.info.student} {part}" if part else self.info.student


@dataclass(frozen=True)
class Room:
    """What the runs of one study share."""

    dataset: Dataset
    evaluation: EvalConfig
    display: Display


def teacher_run(config: StudyConfig, study: Path) -> Run:
    """Return the run that trains the study's teacher."""
    assert config.teacher is not None
    training = config.teacher.training
    definition = _definition(config, model_mapping(config.teacher.model), training)
    info = RunInfo(student="teacher", seed=None, model=config.teacher.model, study="..", definition=definition)
    return Run(info=info, folder=study / "teacher", training=training)


def student_run(config: StudyConfig, study: Path, name: str, seed: int) -> Run:
    """Return the run that trains student ``name`` with ``seed``."""
    training, model = config.training_of(name, seed), config.student.model
    definition = _definition(config, model_mapping(model), training)
    method, options, warm = None, None, None
    if name != PLAIN:
        method, entry = config.registry_name(name), config.methods.get(name)
        options = config.options_of(name)
        definition |= {"method": method, "options": options, "teacher": _teacher_definition(config)}
        if entry is not None and entry.warm_start is not None:
            warm = student_folder(study, entry.warm_start, seed)
            definition["warm_start"] = entry.warm_start
    info = RunInfo(student=name, seed=seed, model=model, study="../../..", definition=definition)
    folder = student_folder(study, name, seed)
    return Run(info=info, folder=folder, training=training, method=method, options=options, warm_start=warm)


def do_run(run: Run, room: Room, teacher: Teacher | None) -> RunRecord:
    """Train what is left of ``run``, test it and write its record; a finished one is only read."""
    if is_current(run.folder, run.info):
        record = load_record(run.folder)
        room.display.say(f"{run.label}: finished before, kept")
        return record
    model, result = train_run(run, room, teacher)
    record = test_run(run, room, model, result)
    room.display.done(_summary(run, record))
    return record


def train_run(run: Run, room: Room, teacher: Teacher | None) -> tuple[Recommender, TrainResult]:
    """Train what is left of ``run``; return its best model and what training says. No test split is opened."""
    write_run_info(run.folder, run.info)
    seeds = Seeds(run.training.seed)
    model = build_model(run.info.model, room.dataset.train, seeds, sequences=room.dataset.sequences)
    if run.warm_start is not None:
        load_best(model, run.warm_start)
    method = build_method(run.method, run.options or {}, seeds) if run.method else None
    return model, _train(run, room, model, method, teacher)


def _train(run: Run, room: Room, model: Recommender, method: Method | None, teacher: Teacher | None) -> TrainResult:
    rows = room.dataset.train.nnz
    steps = -(-rows // run.training.batch_size)
    with room.display.counter(run.label, steps * run.training.epochs) as counter:
        trainer = Trainer(
            model,
            room.dataset,
            method,
            run.training,
            teacher=teacher,
            evaluation=room.evaluation,
            folder=run.folder,
            callbacks=(TrainingProgress(counter, run.training, room.display.counter),),
        )
        if method is not None and teacher is not None:
            for remark in method.remarks(teacher, room.dataset.train):
                room.display.say(f"{run.label}: {remark}")
            _announce(method.outlook(teacher, model, room.dataset.train, device=trainer.device.type), run, room)
        return trainer.fit(resume="auto")


def _announce(outlook: Outlook | None, run: Run, room: Room) -> None:
    """Say in one line what a method's refreshes will take."""
    if outlook is None:
        return
    often = "every epoch" if outlook.every == 1 else f"every {outlook.every} epochs"
    costs = f"{decimal(int(outlook.bytes_moved))} moved, {decimal(outlook.scratch_bytes)} of scratch, {outlook.backend}"
    room.display.say(f"{run.label}: {often} {outlook.what}: about {duration(outlook.seconds)}, {costs} (predicted)")


def test_run(run: Run, room: Room, model: Recommender, result: TrainResult) -> RunRecord:
    """Open the test split once, measure ranking, write the record and return it."""
    tables = model.frozen_tables()
    evaluation = evaluate(tables, room.dataset, "test", config=room.evaluation)
    record = RunRecord(
        student=run.info.student,
        seed=run.info.seed,
        metrics=evaluation.metrics,
        valid=result.best_metrics,
        users_evaluated=evaluation.num_users_evaluated,
        users_excluded=evaluation.excluded_users,
        users_without_targets=evaluation.users_without_targets,
        parameters=model.num_parameters(),
        dim=model.dim,
        users_per_second=ranking_rate(tables, room.dataset, max(room.evaluation.ks)),
        best_epoch=result.best_epoch,
        epochs_run=result.epochs_run,
        epochs_planned=run.training.epochs,
        seconds=result.seconds,
        definition=run.info.definition,
    )
    save_record(run.folder, record, evaluation)
    return record


def load_best(model: Recommender, run: Path) -> None:
    """Load the best checkpoint of a run into ``model`` (the last one where nothing was evaluated)."""
    root = run / "checkpoints"
    name = "best" if (root / "best").exists() else "last"
    tensors = read_checkpoint(root / name).tensors.get("student")
    if tensors is None:
        raise CheckpointError(f"{root / name} holds no student")
    try:
        model.load_state_dict({k: torch.as_tensor(v) for k, v in tensors.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{root / name} does not fit the model of {run / 'run.yaml'}: {error}") from error


def load_run(run: Path, dataset: Dataset) -> Recommender:
    """Return the trained model of a run folder."""
    info = read_run_info(run)
    model = build_model(info.model, dataset.train, Seeds(0), sequences=dataset.sequences)
    load_best(model, run)
    return model


def torch_device(name: str) -> torch.device:
    """Return the device that ``name`` stands for; ``auto`` takes CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def ranking_rate(tables: Tables, dataset: Dataset, k: int) -> float:
    """Return users ranked per second with their training items excluded.

    Batches of at most 1024 users over the whole catalogue, one to warm up, then 0.3 s of them, at least three; the
    median counts, so one disturbed batch does not.
    """
    users = np.arange(min(_LATENCY_USERS, dataset.num_users))
    seen = dataset.train.rows(users)
    asked = torch.from_numpy(users).to(tables.device)
    spent: list[float] = []
    while len(spent) < 4 or sum(spent[1:]) < _LATENCY_SECONDS:
        start = time.perf_counter()
        top = tables.topk(asked, k, exclude=seen)
        if top.ids.is_cuda:
            torch.cuda.synchronize(top.ids.device)
        spent.append(time.perf_counter() - start)
    return len(users) / statistics.median(spent[1:])


def _definition(config: StudyConfig, model: dict[str, Any], training: TrainingConfig) -> dict[str, Any]:
    """Return what decides the result of a run."""
    cost_only = ("memory_budget_mb", "backend", "path")
    evaluation = {k: v for k, v in to_mapping(config.evaluation).items() if k not in cost_only}
    return {
        "data": to_mapping(config.data),
        "model": model,
        "training": training.result_mapping(),
        "evaluation": evaluation,
    }


def _teacher_definition(config: StudyConfig) -> dict[str, Any]:
    if config.teacher_files:
        return {"files": list(config.teacher_files)}
    assert config.teacher is not None
    return {"model": model_mapping(config.teacher.model), "training": config.teacher.training.result_mapping()}


def _summary(run: Run, record: RunRecord) -> str:
    known = {k: v for k, v in record.metrics.items() if v is not None}
    best = "last" if record.best_epoch is None else record.best_epoch + 1
    epochs = f"best epoch {best} of {record.epochs_run}"
    return f"{run.label}  test {metrics_text(known, (run.training.monitor,))}  {epochs}  {duration(record.seconds)}"
