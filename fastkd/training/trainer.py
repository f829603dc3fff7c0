"""Trains a student, alone or with a distillation method; resumes exactly where it was stopped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from fastkd.core.config import to_yaml
from fastkd.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FastKDWarning,
    TeacherError,
    TrainingError,
    did_you_mean,
)
from fastkd.core.files import write_text
from fastkd.core.seeds import Seeds
from fastkd.data.batches import num_batches
from fastkd.data.dataset import Dataset
from fastkd.distillation.method import Method
from fastkd.evaluation import EvalConfig
from fastkd.models.pairs import PairRecommender
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import EmbeddingTeacher, ModelTeacher, Teacher
from fastkd.training.callbacks import Callback, Callbacks, EarlyStop, RunInfo
from fastkd.training.checkpoint import Identity, check_identity, read_checkpoint
from fastkd.training.config import TrainingConfig
from fastkd.training.folder import RunFolder
from fastkd.training.identity import identity_of
from fastkd.training.logs import JsonlLog, ThroughputMeter
from fastkd.training.loop import Loop
from fastkd.training.meter import Meter
from fastkd.training.optimisers import build_optimizer
from fastkd.training.result import TrainResult, read_result
from fastkd.training.signals import StopSignals
from fastkd.training.state import Progress, RunState, load_module
from fastkd.training.step import Learner, build_scaler

_MANY_ROWS = 200_000
"""Rows of both tables from which on a dense optimiser's step is mostly its own traffic."""
Resume = Literal["auto", "never", "must"]


class Trainer:
    """Trains ``student`` on ``data.train``; after :meth:`fit` it holds the weights of its best epoch.

    ``method``: a distillation method, which reads ``teacher`` (a model or tables stand for the teacher they make); None
    trains the student alone. ``folder``: run folder
    (see :mod:`fastkd.training.folder`), or None to keep nothing on disk. The validation split decides
    which epoch is best; the test split is never read. Raises ``ConfigError``, ``DataError`` or
    ``TeacherError`` for parts that do not fit.
    """

    def __init__(
        self,
        student: Recommender,
        data: Dataset,
        method: Method | None,
        config: TrainingConfig,
        *,
        teacher: Teacher | Recommender | Tables | None = None,
        evaluation: EvalConfig | None = None,
        folder: Path | str | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        _require("student", student, Recommender)
        _require("data", data, Dataset)
        _require("config", config, TrainingConfig)
        self.student, self.data, self.method, self.config = student, data, method, config
        self.teacher = _teacher(teacher)
        self.evaluation = evaluation if evaluation is not None else EvalConfig()
        self.folder = RunFolder(Path(folder)) if folder is not None else None
        self.callbacks = tuple(callbacks)
        self.device = _device(config.device)
        self._check()

    def fit(self, resume: Resume = "auto") -> TrainResult:
        """Train to the end and return the result.

        ``resume``: ``auto`` goes on from the folder's last checkpoint if there is one (a finished run is only
        read), ``must`` refuses to start anew, ``never`` refuses a folder that holds a run. A run stopped at any
        step and resumed on the same machine equals one never stopped, bit for bit on the CPU.

        Raises ``TrainingInterrupted`` after SIGINT or SIGTERM (the step is finished and saved), ``TrainingError`` for a
        loss or weight that is not finite, ``CheckpointError`` for a folder of another run or a damaged one.
        """
        if resume not in ("auto", "never", "must"):
            raise ConfigError(f"resume must be one of auto, never, must, got {resume!r}")
        devices = [self.device] if self.device.type == "cuda" else []
        with StopSignals() as signals, torch.random.fork_rng(devices):
            if self.folder is None:
                if resume == "must":
                    raise ConfigError("resume='must' needs a run folder, got folder=None")
                return self._train(None, signals)
            with self.folder.lock():
                return self._train_in(self.folder, resume, signals)

    def _train_in(self, folder: RunFolder, resume: Resume, signals: StopSignals) -> TrainResult:
        folder.restore_names()
        if resume == "never" and folder.holds_run():
            raise TrainingError(
                f"{folder.path} already holds a run and resume='never'; use another folder or delete it"
            )
        if resume == "must" and not folder.holds_run():
            raise CheckpointError(f"{folder.path} holds no run to resume: no {folder.last}")
        self.student.to(self.device)
        finished = read_result(folder.path)
        if finished is not None:
            checkpoint = read_checkpoint(folder.outcome())
            check_identity(checkpoint.identity, self._identity(), folder.path)
            load_module(self.student, checkpoint, "student")
            return finished
        return self._train(folder, signals)

    def _train(self, folder: RunFolder | None, signals: StopSignals) -> TrainResult:
        """Build the run's state, restore it where there is a checkpoint, and loop."""
        identity = self._identity()
        # read and checked before the method prepares, which may take long
        found = read_checkpoint(folder.last) if folder is not None and folder.last.exists() else None
        if found is not None and folder is not None:
            check_identity(found.identity, identity, folder.path)
        elif folder is not None:
            write_text(folder.config, to_yaml(self.config))
        self._note_dense_steps()
        state = self._build(folder)
        if found is not None:
            state.restore(found)
        loop = Loop(state, self.data, self.config, self.evaluation, folder=folder, identity=identity, signals=signals)
        try:
            state.callbacks.each("on_start", self._run_info(state, folder))
            return loop.run()
        finally:
            state.callbacks.each("close")

    def _build(self, folder: RunFolder | None) -> RunState:
        config, student, method = self.config, self.student, self.method
        torch.manual_seed(Seeds(config.seed).key("torch") >> 1)
        student.to(self.device)
        if method is not None:
            assert self.teacher is not None
            method.prepare(self.teacher, student, self.data.train, epochs=config.epochs)
            for module in method.modules().values():
                module.to(self.device)
        groups = method.optimizer_groups() if method is not None else []
        learner = Learner(
            student,
            method,
            build_optimizer(student, groups, config),
            scaler=build_scaler(config.amp, self.device),
            amp=config.amp,
            reduction=config.reduction,
            clip_norm=config.clip_norm,
            row_sparse=config.row_sparse,
        )
        return RunState(learner, Progress(), Meter(), Callbacks(self._all_callbacks(folder)), self.device)

    def _all_callbacks(self, folder: RunFolder | None) -> list[Callback]:
        own: list[Callback] = []
        if self.config.patience is not None:
            own.append(EarlyStop(self.config.patience))
        if folder is not None:
            own += [JsonlLog(folder.metrics), ThroughputMeter(folder.timings)]
        return [*own, *self.callbacks]

    def _run_info(self, state: RunState, folder: RunFolder | None) -> RunInfo:
        train, config = self.data.train, self.config
        return RunInfo(
            epochs=config.epochs,
            steps_per_epoch=num_batches(train, config.batch_size),
            first_step=state.progress.step,
            interactions=train.nnz,
            batch_size=config.batch_size,
            device=str(self.device),
            folder=folder.path if folder is not None else None,
        )

    def _identity(self) -> Identity:
        return identity_of(
            self.student, self.data, self.config, self.evaluation, method=self.method, teacher=self.teacher
        )

    def _check(self) -> None:
        student, train = self.student, self.data.train
        if (student.num_users, student.num_items) != (train.num_users, train.num_items):
            raise ConfigError(
                f"the student covers {student.num_users} users x {student.num_items} items, data is {train!r}"
            )
        if train.nnz == 0:
            raise DataError(f"nothing to train on: {train!r}")
        if self.method is not None and not isinstance(self.method, Method):
            raise TypeError(
                f"method must be one of build_method(name, options, Seeds(seed)) or None, got {self.method!r}"
            )
        if self.method is not None and self.teacher is None:
            raise TeacherError(f"the method {self.method.name!r} needs a teacher, got teacher=None")
        if self.config.row_sparse:
            self._check_row_sparse()
        if self.config.keep_every is not None and isinstance(student, PairRecommender):
            raise ConfigError(
                f"keep_every={self.config.keep_every} keeps vectors, and {type(student).__name__} has none; use None"
            )
        if self.config.eval_every == 0:
            return
        if self.data.valid.nnz == 0:
            raise DataError(
                "the validation split is empty; split the data or set eval_every=0 to train without evaluation"
            )
        known = [f"{metric}@{k}" for metric in self.evaluation.metrics for k in self.evaluation.ks]
        if self.config.monitor not in known:
            near = did_you_mean(self.config.monitor, known)
            raise ConfigError(f"monitor {self.config.monitor!r} is not evaluated.{near} Evaluated: {', '.join(known)}")

    def _note_dense_steps(self) -> None:
        """Say so where nearly all rows that the optimiser writes at a step have no gradient."""
        rows, read = (
            self.student.num_users + self.student.num_items,
            self.config.batch_size * (2 + self.config.negatives),
        )
        if self.config.row_sparse or rows < _MANY_ROWS or rows < 10 * read or isinstance(self.student, PairRecommender):
            return
        if _are_parameters(self.student.tables()):
            warnings.warn(
                f"{self.config.optimizer} writes all {rows:,} rows of users and items at each step, of which a batch "
                f"reads at most {read:,}: optimizer='row_adam' (or row_adagrad, row_sgd) writes those",
                FastKDWarning,
                stacklevel=3,
            )

    def _check_row_sparse(self) -> None:
        """Refuse computed tables: a row-sparse gradient cannot flow on through what computes them."""
        tables = self.student.tables()
        if not _are_parameters(tables):
            raise ConfigError(
                f"optimizer {self.config.optimizer!r} needs a student whose tables are its parameters (bpr_mf); "
                f"{type(self.student).__name__} computes them. adam, adamw or sgd would work"
            )


def _require(name: str, given: object, wanted: type) -> None:
    if not isinstance(given, wanted):
        raise TypeError(f"{name} must be a {wanted.__name__}, got {type(given).__name__}")


def _are_parameters(tables: Tables) -> bool:
    return type(tables) is Tables and tables.users.is_leaf and tables.items.is_leaf


def _teacher(given: object) -> Teacher | None:
    if given is None or isinstance(given, Teacher):
        return given
    if isinstance(given, Recommender):
        return ModelTeacher(given)
    if isinstance(given, Tables):
        return EmbeddingTeacher(given.users, given.items)
    raise TypeError(f"teacher must be a Teacher, a model or Tables, got {type(given).__name__}")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown; auto, cpu or cuda would work") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} was asked for, but torch sees no CUDA device; auto or cpu would work")
    return device
