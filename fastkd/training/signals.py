"""A run told to stop finishes its step, saves and says where; it never dies in the middle of a write."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from fastkd.core.errors import FastKDError


class TrainingInterrupted(FastKDError):  # noqa: N818 - not a failure: the run is complete up to here
    """Training stopped on a signal after finishing its step.

    ``folder``: the run folder to resume from, or None when the run had none. ``signum``: what arrived.
    ``step``: steps done.
    """

    def __init__(self, folder: Path | None, signum: int, step: int) -> None:
        self.folder, self.signum, self.step = folder, signum, step
        name = signal.Signals(signum).name
        where = f"resume from {folder}" if folder is not None else "there is no run folder, so its work is lost"
        super().__init__(f"{name} after step {step}: {where}")


@contextlib.contextmanager
def interrupt_on_terminate() -> Iterator[None]:
    """Let SIGTERM raise ``KeyboardInterrupt``, as Ctrl-C does, within the context and on the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


class StopSignals:
    """Context that notes SIGINT and SIGTERM instead of dying; the handlers before it are restored on exit.

    A second signal of the same kind acts as it did before the context: it does not wait. Outside the main
    thread (where Python allows no handlers) nothing is noted.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in list(self._before):
            self._restore(number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore(number)

    def _restore(self, number: int) -> None:
        # None: a handler that C code installed; Python cannot put it back.
        before = self._before.pop(number)
        signal.signal(number, before if before is not None else signal.SIG_DFL)
