"""Exit codes: one per kind of failure, so that scripts can tell them apart."""

from __future__ import annotations

from fastkd.core.errors import BackendError, CheckpointError, ConfigError, DataError, FastKDError, TeacherError

OK = 0
UNEXPECTED = 1
USAGE = 2
DATA = 3
STORAGE = 4
INTERRUPTED = 130

EXIT_CODES: dict[int, str] = {
    OK: "done",
    UNEXPECTED: "unexpected failure (a defect, or training that cannot go on)",
    USAGE: "bad usage or configuration",
    DATA: "bad data or teacher",
    STORAGE: "checkpoint or disk",
    INTERRUPTED: "interrupted; a resumable checkpoint is left and the resume command printed",
}
"""Every code the program returns and what it says."""


class Interrupted(FastKDError):  # noqa: N818  (a state, not an error)
    """The user stopped a run; ``resume`` is the command that goes on from there."""

    def __init__(self, resume: str) -> None:
        super().__init__(f"interrupted; go on with: {resume}")
        self.resume = resume


def exit_code_of(error: BaseException) -> int:
    """Return the exit code that stands for ``error``."""
    if isinstance(error, (KeyboardInterrupt, Interrupted)):
        return INTERRUPTED
    if isinstance(error, (ConfigError, BackendError)):
        return USAGE
    if isinstance(error, (DataError, TeacherError)):
        return DATA
    if isinstance(error, (CheckpointError, OSError)):
        return STORAGE
    return UNEXPECTED
