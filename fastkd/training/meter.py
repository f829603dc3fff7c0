"""Running means of the losses, without a host sync per step.

Each step writes one row of named values into a device buffer. The buffer is read when a log line is due or
when it is full, and only then is a value that is not finite noticed; the row tells at which step it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastkd.core.errors import TrainingError


class Meter:
    """Collects named 0-d tensors per step; gives means over a log window and over the epoch.

    ``capacity``: steps between forced reads of the buffer. Sums are float64, in step order, so they
    do not depend on where a run was interrupted.
    """

    def __init__(self, *, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._names: tuple[str, ...] = ()
        self._buffer: Tensor | None = None  # [capacity, len(names)]
        self._steps: list[int] = []
        self._window: dict[str, tuple[float, int]] = {}
        self._epoch: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, Tensor], *, step: int, epoch: int) -> None:
        """Write one step's values; a read happens only when the buffer is full or the names change."""
        names = tuple(values)
        if names != self._names or self._buffer is None or len(self._steps) == self.capacity:
            self.read(epoch=epoch)
        row = [v.detach() for v in values.values()]
        if names != self._names or self._buffer is None:
            self._names = names
            self._buffer = torch.empty(self.capacity, len(names), dtype=torch.float32, device=row[0].device)
        if all(v.dtype == torch.float32 for v in row):
            torch.stack(row, out=self._buffer[len(self._steps)])
        else:
            self._buffer[len(self._steps)] = torch.stack([v.float() for v in row])
        self._steps.append(step)

    def read(self, *, epoch: int) -> None:
        """Move the buffer into the sums; raises ``TrainingError`` at the first value that is not finite."""
        rows = self._rows()
        self._check(rows, epoch)
        for name, column in zip(self._names, zip(*rows, strict=True) if rows else (), strict=False):
            for sums in (self._window, self._epoch):
                total, count = sums.get(name, (0.0, 0))
                for value in column:
                    total += value
                sums[name] = (total, count + len(column))
        self._steps.clear()

    def check(self, *, epoch: int) -> None:
        """Raise ``TrainingError`` if a collected value is not finite; sums and buffer stay as they are."""
        self._check(self._rows(), epoch)

    def window_means(self, *, epoch: int) -> dict[str, float]:
        """Return the means since the last call and start a new window."""
        self.read(epoch=epoch)
        means = _means(self._window)
        self._window = {}
        return means

    def epoch_means(self, *, epoch: int) -> dict[str, float]:
        """Return the means of the epoch and start a new epoch and window."""
        self.read(epoch=epoch)
        means = _means(self._epoch)
        self._window, self._epoch = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values: the unread rows as they are, and the sums."""
        return {
            "names": list(self._names),
            "steps": list(self._steps),
            "rows": self._rows(),
            "window": {name: list(pair) for name, pair in self._window.items()},
            "epoch": {name: list(pair) for name, pair in self._epoch.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any], *, device: torch.device | str) -> None:
        """Restore :meth:`state_dict`."""
        self._names = tuple(state["names"])
        self._steps = [int(step) for step in state["steps"]]
        self._buffer = None
        if self._names:
            self._buffer = torch.empty(self.capacity, len(self._names), dtype=torch.float32, device=device)
        if self._steps and self._buffer is not None:
            self._buffer[: len(self._steps)] = torch.tensor(state["rows"], dtype=torch.float32)
        self._window = {name: (float(total), int(count)) for name, (total, count) in state["window"].items()}
        self._epoch = {name: (float(total), int(count)) for name, (total, count) in state["epoch"].items()}

    def _rows(self) -> list[list[float]]:
        if self._buffer is None or not self._steps:
            return []
        rows: list[list[float]] = self._buffer[: len(self._steps)].cpu().double().tolist()
        return rows

    def _check(self, rows: list[list[float]], epoch: int) -> None:
        for step, row in zip(self._steps, rows, strict=True):
            bad = {n: v for n, v in zip(self._names, row, strict=True) if not math.isfinite(v)}
            if bad:
                # the total follows its parts, so it is named only when it is alone
                parts = {n: v for n, v in bad.items() if n != "loss"} or bad
                listed = ", ".join(f"{name} is {value}" for name, value in parts.items())
                raise TrainingError(f"{listed} at step {step} (epoch {epoch})")


def _means(sums: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    return {name: total / count for name, (total, count) in sums.items()}
