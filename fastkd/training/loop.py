"""The training loop proper: epochs of steps, evaluation, early stop, checkpoints."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fastkd.core.errors import TrainingError
from fastkd.data.batches import num_batches
from fastkd.data.dataset import Dataset
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models.teacher_files import save_tables
from fastkd.training.checkpoint import Identity, read_checkpoint, write_checkpoint
from fastkd.training.config import TrainingConfig
from fastkd.training.folder import RunFolder
from fastkd.training.negatives import EpochNegatives
from fastkd.training.result import TrainResult, write_result
from fastkd.training.signals import StopSignals, TrainingInterrupted
from fastkd.training.state import RunState, load_module
from fastkd.training.step import train_step


class Loop:
    """Runs from where ``state`` is to the end.

    What it does between two steps is host work of microseconds; it reads the device when a log line, an
    evaluation or a checkpoint is due.
    """

    def __init__(
        self,
        state: RunState,
        data: Dataset,
        config: TrainingConfig,
        evaluation: EvalConfig,
        *,
        folder: RunFolder | None,
        identity: Identity,
        signals: StopSignals,
    ) -> None:
        self.state, self.data, self.config, self.evaluation = state, data, config, evaluation
        self.folder, self.identity, self.signals = folder, identity, signals
        self.learner, self.progress, self.meter = state.learner, state.progress, state.meter
        self.callbacks = state.callbacks
        self.steps_per_epoch = num_batches(data.train, config.batch_size)
        self._saved_at: tuple[int, int, int] | None = None
        self._best_weights: dict[str, Tensor] | None = None
        self._clock = time.perf_counter()

    def run(self) -> TrainResult:
        """Train to the end; the student then holds its best weights."""
        try:
            by_user = self.learner.student.batch_by_user
            with EpochNegatives(self.data.train, self.learner.method, self.config, by_user=by_user) as negatives:
                while self.progress.epoch < self.config.epochs and self.progress.stopped is None:
                    self._stop_if_told()
                    self._epoch(negatives)
                    self._end_epoch()
        except TrainingError as error:
            raise TrainingError(f"{error}{self._last_good()}") from error
        return self._finish()

    def _epoch(self, negatives: EpochNegatives) -> None:
        """Run the steps of the epoch that are not done yet."""
        progress, method = self.progress, self.learner.method
        epoch = progress.epoch
        self.callbacks.each("on_epoch_start", epoch)
        if method is not None:
            method.progress = functools.partial(self.callbacks.each, "on_progress")
            method.begin_epoch(epoch, self.learner.student)
        for batch in negatives.batches(epoch, progress.step_in_epoch):
            values = train_step(self.learner, batch.to(self.state.device), epoch=epoch, step=progress.step)
            self.meter.add(values, step=progress.step, epoch=epoch)
            progress.step += 1
            progress.step_in_epoch += 1
            self._after_step(len(batch))

    def _after_step(self, rows: int) -> None:
        progress, config = self.progress, self.config
        self.callbacks.on_step(progress.step, rows)
        if config.log_every is not None and progress.step % config.log_every == 0:
            self._log("step", self.meter.window_means(epoch=progress.epoch))
        last_of_epoch = progress.step_in_epoch == self.steps_per_epoch  # its end saves, or the next step does
        if config.checkpoint_every is not None and progress.step % config.checkpoint_every == 0 and not last_of_epoch:
            self._save(best=False)
        self._stop_if_told()

    def _end_epoch(self) -> None:
        """Log, evaluate when due, move on to the next epoch, and save what an evaluation earned."""
        progress, config = self.progress, self.config
        epoch = progress.epoch
        self._log("epoch", self.meter.epoch_means(epoch=epoch))
        due = config.eval_every and ((epoch + 1) % config.eval_every == 0 or epoch + 1 == config.epochs)
        improved = self._evaluate() if due else config.eval_every == 0
        if improved:
            progress.best_epoch = epoch
        progress.epoch, progress.step_in_epoch = epoch + 1, 0
        progress.stopped = self.callbacks.stop_reason()
        self._keep()  # before the checkpoint: a run resumed from that does not come here again
        if due or improved or progress.stopped is not None or self._checkpoint_due_at_end():
            self._save(best=improved)

    def _keep(self) -> None:
        """Keep the student's vectors beside its checkpoints, every ``keep_every`` epochs."""
        every, done = self.config.keep_every, self.progress.epoch
        if self.folder is not None and every is not None and done % every == 0:
            save_tables(self.folder.kept(done), self.learner.student.frozen_tables())

    def _checkpoint_due_at_end(self) -> bool:
        every = self.config.checkpoint_every
        return every is not None and self.progress.step % every == 0

    def _evaluate(self) -> bool:
        """Rank the validation split; return whether the monitored metric is the best so far."""
        progress, monitor = self.progress, self.config.monitor
        self.state.check_finite()
        found = evaluate(self.learner.student, self.data, "valid", config=self.evaluation).metrics
        metrics = {name: float(value) for name, value in found.items()}
        value = metrics[monitor]
        if not math.isfinite(value):
            raise TrainingError(f"{monitor} on the validation split is {value} after epoch {progress.epoch}")
        improved = progress.best_value is None or value > progress.best_value
        if improved:
            progress.best_value, progress.best_metrics = value, metrics
        record = self._record("evaluate") | {"metrics": metrics}
        self.callbacks.each("on_evaluate", record, improved=improved)
        return improved

    def _log(self, event: str, losses: Mapping[str, float]) -> None:
        self.callbacks.each("on_log", self._record(event) | {"losses": dict(losses)})

    def _record(self, event: str) -> dict[str, Any]:
        return {"event": event, "epoch": self.progress.epoch, "step": self.progress.step}

    def _save(self, *, best: bool) -> None:
        """Write a checkpoint; without a folder, keep the best weights in memory."""
        progress = self.progress
        self.state.check_finite()
        now = time.perf_counter()
        progress.seconds, self._clock = progress.seconds + now - self._clock, now
        if self.folder is None:
            if best:
                self._best_weights = {k: v.detach().clone() for k, v in self.learner.student.state_dict().items()}
            return
        # best before last: a run resumed from the older last finds its best again, one resumed from the newer last
        # (which knows that there is a best) would miss it.
        names = ("best", "last") if best else ("last",)
        checkpoint = self.state.capture(self.identity)
        written = write_checkpoint(self.folder.checkpoints, checkpoint, step=progress.step, names=names)
        self._saved_at = self._position()
        self.callbacks.each("on_checkpoint", written, best=best)

    def _stop_if_told(self) -> None:
        """After a signal: save unless this very position is saved, and raise ``TrainingInterrupted``."""
        if self.signals.received is None:
            return
        if self._saved_at != self._position():
            self._save(best=False)
        folder = self.folder.path if self.folder is not None else None
        raise TrainingInterrupted(folder, self.signals.received, self.progress.step)

    def _position(self) -> tuple[int, int, int]:
        return (self.progress.step, self.progress.epoch, self.progress.step_in_epoch)

    def _last_good(self) -> str:
        if self.folder is None or not self.folder.last.exists():
            return ""
        return f". The last good checkpoint is {self.folder.last.resolve()}"

    def _finish(self) -> TrainResult:
        """Give the student its best weights and write the result."""
        progress = self.progress
        result = TrainResult(
            best_metrics=progress.best_metrics,
            best_epoch=progress.best_epoch,
            epochs_run=progress.epoch,
            steps=progress.step,
            seconds=progress.seconds + time.perf_counter() - self._clock,
            stopped=progress.stopped or "epochs",
        )
        if self.folder is not None:
            load_module(self.learner.student, read_checkpoint(self.folder.outcome()), "student")
            write_result(self.folder.path, result)
        elif self._best_weights is not None:
            self.learner.student.load_state_dict(self._best_weights)
        self.callbacks.each("on_end", result)
        return result
