"""The errors fastkd raises on bad input, corrupt files and missing means.

Each is also the built-in a caller would expect (``ValueError``, ``RuntimeError``), so code that
does not know fastkd still catches the right thing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FastKDError(Exception):
    """Base of every error that fastkd raises on purpose."""


class ConfigError(FastKDError, ValueError):
    """A configuration names an unknown key, a wrong type or an impossible value."""


class DataError(FastKDError, ValueError):
    """Interactions, ids or splits that break a stated rule."""


class TeacherError(FastKDError, ValueError):
    """A teacher that does not fit the data, or lacks what a method needs from it."""


class CheckpointError(FastKDError, RuntimeError):
    """A checkpoint that is missing, truncated, corrupt or of another run."""


class BackendError(FastKDError, RuntimeError):
    """An explicitly requested backend has an obstacle; every obstacle is listed."""


class TrainingError(FastKDError, RuntimeError):
    """Training reached a state it cannot go on from, such as a loss that is not finite."""


class FastKDWarning(UserWarning):
    """Something was done without that the caller may have counted on; the command line shows it as a note."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
