"""Shows a training run: a bar of steps, the last loss, the validation metric and the best so far."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from fastkd.cli.console import count
from fastkd.cli.progress import Counter
from fastkd.training import TrainingConfig
from fastkd.training.callbacks import Callback, RunInfo


class TrainingProgress(Callback):
    """Feeds a :class:`Counter`; keeps no state that a checkpoint would need."""

    def __init__(
        self,
        counter: Counter,
        config: TrainingConfig,
        bar: Callable[..., contextlib.AbstractContextManager[Counter]] | None = None,
    ) -> None:
        """Take the run's counter; ``bar`` opens another for work outside the steps (None: behind the counter)."""
        self._counter = counter
        self._bar = bar
        self._open: contextlib.ExitStack | None = None
        self._work = counter
        self._config = config
        self._parts = {"epoch": "", "work": "", "loss": "", "metric": ""}
        self._best: float | None = None

    def on_start(self, run: RunInfo) -> None:
        """Take over the steps of the run that is resumed."""
        self._counter.start(run.first_step, run.total_steps)

    def on_epoch_start(self, epoch: int) -> None:
        """Show the epoch."""
        self._say("epoch", f"epoch {epoch + 1}/{self._config.epochs}")

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Show work outside the steps while it lasts, in a bar of its own."""
        if self._bar is None:
            self._say("work", f"{what} {100 * done // max(total, 1)} %" if done < total else "")
            return
        if self._open is None:
            self._open = contextlib.ExitStack()
            self._work = self._open.enter_context(self._bar(f"{self._counter.label}: {what}", total, unit="users"))
        self._work.advance(done - self._work.done, rows=done - self._work.done)
        self._work.say("")  # such calls are rare: show each
        if done >= total:
            self.close()

    def close(self) -> None:
        """Take away a bar that is still open."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def on_step(self, step: int, rows: int) -> None:
        """Move the bar."""
        self._counter.advance(rows=rows)

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Show the loss."""
        losses = record.get("losses") or record.get("metrics") or record
        loss = losses.get("loss")
        if isinstance(loss, float):
            self._say("loss", f"loss {loss:.4g}" if abs(loss) < 1e4 else f"loss {count(loss)}")

    def on_evaluate(self, record: Mapping[str, Any], *, improved: bool) -> None:
        """Show the monitored metric and the best one."""
        value = (record.get("metrics") or record).get(self._config.monitor)
        if value is None:
            return
        self._best = value if improved or self._best is None else self._best
        self._say("metric", f"{self._config.monitor} {value:.4f} best {self._best:.4f}")

    def _say(self, part: str, text: str) -> None:
        self._parts[part] = text
        self._counter.say("  ".join(t for t in self._parts.values() if t))
