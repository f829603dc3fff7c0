"""Logs and rates of a run, as callbacks: JSON lines, throughput, TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from fastkd.core.capability import has_module
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.training.callbacks import Callback, RunInfo


class JsonlLog(Callback):
    """Writes every record as one JSON line; holds no clock, so the same run writes the same bytes.

    The length of the file travels in the checkpoint: a resumed run cuts the file there and goes on, and ends with the
    bytes of a run that was never stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._length = 0

    @property
    def name(self) -> str:
        """Key in a checkpoint: one log per file name."""
        return f"JsonlLog:{self.path.name}"

    def on_start(self, run: RunInfo) -> None:
        """Open the file, cut to the length that the checkpoint knows."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        found = self._file.seek(0, os.SEEK_END)
        if found < self._length:
            raise CheckpointError(f"{self.path} holds {found} bytes, the checkpoint was made at {self._length}")
        self._file.truncate(self._length)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one line."""
        assert self._file is not None, "on_start opens the log"
        line = json.dumps(record, allow_nan=True, separators=(",", ":")).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise CheckpointError(f"cannot write the log {self.path}: {error.strerror}") from error
        self._length += len(line)

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Write mean losses."""
        self.write(record)

    def on_evaluate(self, record: Mapping[str, Any], *, improved: bool) -> None:
        """Write metrics."""
        self.write({**record, "improved": improved})

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def state_dict(self) -> dict[str, Any]:
        """Sync the file and return its length in bytes."""
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise CheckpointError(f"cannot write the log {self.path}: {error.strerror}") from error
        return {"bytes": self._length}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the length; the file is cut in :meth:`on_start`."""
        self._length = int(state["bytes"])


class ThroughputMeter(Callback):
    """Measures steps and interactions per second and the time left; shows nothing itself.

    Rates are over the time between the start (or resume) and the last step, evaluation included, so that
    ``seconds_left`` is a time people can plan with. With ``path``, one line per epoch is written there.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._log = JsonlLog(path) if path is not None else None
        self._run: RunInfo | None = None
        self._start = self._now = self._epoch_start = time.perf_counter()
        self.step = self.rows = self._epoch_rows = 0

    @property
    def name(self) -> str:
        """Key in a checkpoint: the meter that writes and one that only watches may run together."""
        return "ThroughputMeter" if self._log is None else f"ThroughputMeter:{self._log.path.name}"

    @property
    def steps_per_second(self) -> float:
        """Steps per second since the start, 0.0 before the first step."""
        done = self.step - (self._run.first_step if self._run is not None else 0)
        return done / (self._now - self._start) if done > 0 else 0.0

    @property
    def interactions_per_second(self) -> float:
        """Interactions per second since the start, 0.0 before the first step."""
        return self.rows / (self._now - self._start) if self.rows else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the last planned epoch at the rate so far, None before the first step."""
        rate = self.steps_per_second
        return (self._run.total_steps - self.step) / rate if rate and self._run is not None else None

    def on_start(self, run: RunInfo) -> None:
        """Start the clock."""
        self._run, self.step, self.rows = run, run.first_step, 0
        self._start = self._now = time.perf_counter()
        if self._log is not None:
            self._log.on_start(run)

    def on_epoch_start(self, epoch: int) -> None:
        """Start the epoch's clock."""
        self._epoch_start, self._epoch_rows = time.perf_counter(), 0

    def on_step(self, step: int, rows: int) -> None:
        """Count."""
        self.step = step
        self.rows += rows
        self._epoch_rows += rows
        self._now = time.perf_counter()

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Write the epoch's time."""
        if self._log is not None and record["event"] == "epoch":
            seconds = time.perf_counter() - self._epoch_start
            rate = self._epoch_rows / seconds if seconds > 0 else 0.0
            line = {"epoch": record["epoch"], "step": record["step"], "seconds": seconds}
            self._log.write({**line, "interactions_per_second": rate})

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()

    def state_dict(self) -> dict[str, Any]:
        """Return the length of the file."""
        return self._log.state_dict() if self._log is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the length of the file."""
        if self._log is not None and state:
            self._log.load_state_dict(state)


class TensorBoard(Callback):
    """Writes losses and metrics for TensorBoard; needs the extra ``fastkd[tensorboard]``."""

    def __init__(self, folder: Path) -> None:
        if not has_module("tensorboard"):
            raise ConfigError("TensorBoard logs need the package tensorboard: pip install 'fastkd[tensorboard]'")
        self.folder = folder
        self._writer: Any = None

    def on_start(self, run: RunInfo) -> None:
        """Open the event file; what an interrupted session wrote past its checkpoint is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        # purge_step: TensorBoard drops events at or after this step that an earlier session wrote.
        self._writer = SummaryWriter(str(self.folder), purge_step=run.first_step + 1)

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Write mean losses, those of steps and of epochs apart."""
        self._write("train" if record["event"] == "step" else "epoch", record["losses"], record["step"])

    def on_evaluate(self, record: Mapping[str, Any], *, improved: bool) -> None:
        """Write validation metrics."""
        self._write("valid", record["metrics"], record["step"])

    def close(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}/{name}", value, step)
