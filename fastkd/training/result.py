"""What training leaves: a small value, and ``result.json`` once the run is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fastkd.core.config import from_mapping
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.core.files import write_text

RESULT = "result.json"


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a finished run.

    ``best_metrics``: validation metrics of the weights the student holds; empty without evaluation.
    ``best_epoch``: epoch (from 0) they belong to. ``epochs_run``, ``steps``: done in all sessions.
    ``seconds``: spent in ``fit`` over all sessions. ``stopped``: ``epochs`` (all done), ``patience``, or a
    callback's reason.
    """

    best_metrics: Mapping[str, float] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs_run: int = 0
    steps: int = 0
    seconds: float = 0.0
    stopped: str = "epochs"


def write_result(folder: Path, result: TrainResult) -> None:
    """Write ``result.json`` atomically; its presence says that the run is finished."""
    try:
        write_text(folder / RESULT, json.dumps(asdict(result), indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(f"cannot write {folder / RESULT}: {error.strerror}") from error


def read_result(folder: Path) -> TrainResult | None:
    """Return the result of a finished run, or None; a damaged file is a ``CheckpointError`` that names it."""
    path = folder / RESULT
    try:
        return from_mapping(TrainResult, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it and fit again: the run resumes") from error
