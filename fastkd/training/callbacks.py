"""What may happen beside the training loop. Printing belongs to the command line, so nothing here prints.

A callback overrides the hooks it needs. Its ``state_dict`` travels in every checkpoint, so that a counter of an
interrupted run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastkd.core.errors import ConfigError
from fastkd.training.result import TrainResult


@dataclass(frozen=True)
class RunInfo:
    """What is known when training starts.

    ``first_step``: steps already done by the run that is resumed, else 0. ``device``: torch device name.
    """

    epochs: int
    steps_per_epoch: int
    first_step: int
    interactions: int
    batch_size: int
    device: str
    folder: Path | None

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, unless it stops early."""
        return self.epochs * self.steps_per_epoch


class Callback:
    """Hooks of the training loop; every one does nothing until overridden.

    Hooks run on the host between steps. ``on_step`` runs after every step: keep it cheap, and do not read
    tensors in it.
    """

    @property
    def name(self) -> str:
        """Key of this callback's state in a checkpoint; unique within a run."""
        return type(self).__name__

    def on_start(self, run: RunInfo) -> None:
        """Take note that training starts or resumes; state has been restored."""

    def on_epoch_start(self, epoch: int) -> None:
        """Take note that an epoch starts, or is resumed in its middle."""

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Take note of long work outside the steps, e.g. a method's draws: ``done`` of ``total`` users."""

    def on_step(self, step: int, rows: int) -> None:
        """Take note that ``step`` steps are done; the last batch had ``rows`` interactions."""

    def on_log(self, record: Mapping[str, Any]) -> None:
        """Take mean losses of a window of steps (``event: step``) or of an epoch (``event: epoch``)."""

    def on_evaluate(self, record: Mapping[str, Any], *, improved: bool) -> None:
        """Take validation metrics; ``improved``: the monitored one is the best so far."""

    def on_checkpoint(self, folder: Path, *, best: bool) -> None:
        """Take note of a complete checkpoint in ``folder``."""

    def on_end(self, result: TrainResult) -> None:
        """Take the result; the student holds its best weights."""

    def close(self) -> None:
        """Release what was opened; called once, whether training succeeded or not."""

    def stop_reason(self) -> str | None:
        """Return why training should stop now, or None; asked between epochs."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values to restore after an interruption."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; called before :meth:`on_start` when a run is resumed."""


class Callbacks:
    """Calls the hooks of several callbacks in order."""

    def __init__(self, members: Iterable[Callback]) -> None:
        self.members = tuple(members)
        names = [member.name for member in self.members]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"two callbacks are called {twice[0]!r}; override `name` in one of them")

    def each(self, hook: str, *args: Any, **options: Any) -> None:
        """Call ``hook`` of every member."""
        for member in self.members:
            getattr(member, hook)(*args, **options)

    def on_step(self, step: int, rows: int) -> None:
        """Call ``on_step`` of every member."""
        for member in self.members:
            member.on_step(step, rows)

    def stop_reason(self) -> str | None:
        """Return the first reason to stop, or None."""
        return next((reason for member in self.members if (reason := member.stop_reason()) is not None), None)

    def state_dict(self) -> dict[str, Any]:
        """Return the members' states by name."""
        return {member.name: member.state_dict() for member in self.members}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Restore the members that have a state; a callback that is new starts fresh."""
        for member in self.members:
            if member.name in states:
                member.load_state_dict(states[member.name])


class EarlyStop(Callback):
    """Stops after ``patience`` evaluations in a row without a better monitored metric."""

    def __init__(self, patience: int) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ConfigError(f"patience must be an integer of at least 1, got {patience!r}")
        self.patience = patience
        self.waited = 0

    def on_evaluate(self, record: Mapping[str, Any], *, improved: bool) -> None:
        """Count, or start counting anew."""
        self.waited = 0 if improved else self.waited + 1

    def stop_reason(self) -> str | None:
        """Return ``patience`` once it has run out."""
        return "patience" if self.waited >= self.patience else None

    def state_dict(self) -> dict[str, Any]:
        """Return the counter."""
        return {"waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the counter."""
        self.waited = int(state["waited"])
