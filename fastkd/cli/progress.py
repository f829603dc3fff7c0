"""Progress with rates and time left: bars on a terminal, sparse lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from fastkd.cli.console import count, duration, err

LINE_SECONDS = 10.0
"""Least time between two progress lines when stderr is no terminal."""


class _Left(ProgressColumn):
    """Time left, as people say it."""

    def get_table_column(self) -> Column:
        """Return a column that does not wrap."""
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        """Return the estimate of ``task``, blank until there is one."""
        seconds = task.time_remaining
        return Text("" if seconds is None or task.finished else f"{duration(seconds)} left", style="cyan")


class _Rate(ProgressColumn):
    """Rows per second, from the task's own counter of rows."""

    def get_table_column(self) -> Column:
        """Return a column that does not wrap."""
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        """Return rows done over time spent."""
        rows, spent = task.fields.get("rows", 0), task.elapsed
        return Text(f"{count(rows / spent)} {task.fields.get('unit', 'rows')}/s" if rows and spent else "", style="dim")


class _Words(ProgressColumn):
    """What the task says; the column that gives way on a narrow terminal."""

    def render(self, task: Task) -> Text:
        """Return the text on one line, cut where it does not fit."""
        return Text(task.fields.get("text", ""), style="dim", no_wrap=True, overflow="ellipsis")


@dataclass
class Counter:
    """Progress of one long task. ``advance`` is cheap: a line or a redraw happens at most ten times a second."""

    label: str
    total: int
    unit: str
    show: Callable[[Counter], None]
    done: int = 0
    rows: int = 0
    text: str = ""
    started: float = field(default_factory=time.monotonic)
    _before: int = 0
    _shown: float = 0.0

    def start(self, done: int, total: int) -> None:
        """Begin at ``done`` of ``total``; what was done before does not count for rates."""
        self.done = self._before = done
        self.total = total
        self.started = time.monotonic()
        self.show(self)

    def advance(self, steps: int = 1, *, rows: int = 0) -> None:
        """Count ``steps`` of the task and the ``rows`` they held."""
        self.done += steps
        self.rows += rows
        now = time.monotonic()
        if now - self._shown > 0.1:
            self._shown = now
            self.show(self)

    def say(self, text: str) -> None:
        """Set what stands behind the bar."""
        self.text = text
        self.show(self)

    @property
    def seconds(self) -> float:
        """Seconds since the task began."""
        return time.monotonic() - self.started

    def line(self) -> str:
        """Return the progress as one line of a log."""
        share = f"{100 * self.done / self.total:.0f} %" if self.total else f"{self.done}"
        parts = [f"{self.label}: {share}"]
        if self.text:
            parts.append(self.text)
        if self.rows and self.seconds > 0:
            parts.append(f"{count(self.rows / self.seconds)} {self.unit}/s")
        if self._before < self.done < self.total:
            left = self.seconds * (self.total - self.done) / (self.done - self._before)
            parts.append(f"{duration(left)} left")
        return "  ".join(parts)


class Display:
    """What a command shows while it works; use it as a context manager.

    ``live`` forces bars on or off; None takes bars where stderr is a terminal.
    """

    def __init__(self, console: Console = err, *, live: bool | None = None) -> None:
        self.console = console
        self.live = console.is_terminal if live is None else live
        self._progress = Progress(
            SpinnerColumn(table_column=Column(min_width=1, no_wrap=True)),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16, table_column=Column(min_width=10, no_wrap=True)),
            TaskProgressColumn("{task.percentage:>3.0f} %"),
            _Rate(),
            _Left(),
            _Words(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self._runs: TaskID | None = None

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def plan(self, runs: int) -> None:
        """Announce how many runs the study has; the bar above all others counts them."""
        self._runs = self._progress.add_task("study", total=runs, text=f"0 of {runs} runs done", rows=0)

    def run_done(self) -> None:
        """Count one run of the plan."""
        if self._runs is not None:
            self._progress.advance(self._runs)
            task = self._progress.tasks[self._progress.task_ids.index(self._runs)]
            self._progress.update(self._runs, text=f"{task.completed:.0f} of {task.total:.0f} runs done")

    def done(self, text: str) -> None:
        """Print a line that stays, with a mark."""
        self._progress.console.print(Text.assemble(("✓ ", "green"), text))

    def say(self, text: str) -> None:
        """Print a dim line that stays."""
        self._progress.console.print(Text(text, style="dim"))

    @contextlib.contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Show ``text`` while the block runs, and a line with its time after it."""
        task = self._progress.add_task(text, total=None, text="", rows=0)
        start = time.monotonic()
        try:
            yield
        finally:
            self._progress.remove_task(task)
        self.done(f"{text}  {duration(time.monotonic() - start)}")

    @contextlib.contextmanager
    def counter(self, label: str, total: int, *, unit: str = "rows") -> Iterator[Counter]:
        """Show a bar of ``total`` steps while the block runs."""
        task = self._progress.add_task(label, total=total, text="", rows=0, unit=unit)
        last_line = [time.monotonic()]

        def show(state: Counter) -> None:
            if self.live:
                self._progress.update(task, completed=state.done, total=state.total, rows=state.rows, text=state.text)
            elif time.monotonic() - last_line[0] >= LINE_SECONDS:
                last_line[0] = time.monotonic()
                self.say(state.line())

        try:
            yield Counter(label, total, unit, show)
        finally:
            self._progress.remove_task(task)


def metrics_text(metrics: Mapping[str, float], names: tuple[str, ...]) -> str:
    """Return the named metrics that are there, as ``ndcg@10 0.0412``."""
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
