"""What a finished run leaves beside its checkpoints: ``test.json`` and the per-user values behind it.

``test.json`` is written last, after one opening of the test split: a run that has it is finished.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import CheckpointError
from fastkd.core.files import write_bytes, write_text
from fastkd.evaluation import EvalConfig, Evaluation

RECORD = "test.json"
PER_USER = "test_users.safetensors"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One finished run.

    ``student``: the study's name for it (``teacher``, ``none``, a method). ``metrics``: test split, best
    checkpoint; ``valid``: the same checkpoint on the validation split. ``users_per_second``: users ranked by
    ``rank_topk`` with seen items excluded, None for a teacher of lists. ``seconds``: of training.
    ``definition``: the plain configuration the run was made with, to notice when it changes.
    """

    student: str
    seed: int | None
    metrics: Mapping[str, float | None]
    valid: Mapping[str, float | None] = field(default_factory=dict)
    users_evaluated: int = 0
    users_excluded: int = 0
    users_without_targets: int = 0
    parameters: int | None = None
    dim: int | None = None
    users_per_second: float | None = None
    best_epoch: int | None = None
    epochs_run: int = 0
    epochs_planned: int = 0
    seconds: float = 0.0
    definition: Mapping[str, Any] = field(default_factory=dict)


def is_finished(folder: Path) -> bool:
    """Return whether a run has been tested."""
    return (folder / RECORD).is_file()


def save_record(folder: Path, record: RunRecord, evaluation: Evaluation) -> None:
    """Write the per-user values, then the record, both atomically."""
    arrays = {"users": evaluation.users, **evaluation.per_user}
    meta = {"split": evaluation.split, "config": json.dumps(to_mapping(evaluation.config))}
    write_bytes(folder / PER_USER, save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=meta))
    write_text(folder / RECORD, json.dumps(finite(dataclasses.asdict(record)), indent=2, allow_nan=False) + "\n")


def load_record(folder: Path) -> RunRecord:
    """Return the record of a finished run."""
    file = folder / RECORD
    try:
        return from_mapping(RunRecord, json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no finished run: it holds no {RECORD}") from error
    except ValueError as error:
        raise CheckpointError(f"{file} is damaged ({error}); delete it and run the study again") from error


def load_evaluation(folder: Path, record: RunRecord, config: EvalConfig) -> Evaluation:
    """Return the test evaluation of a finished run, per-user values included."""
    file = folder / PER_USER
    try:
        arrays = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be read ({error}); delete {folder / RECORD} and run the study again"
        ) from error
    return Evaluation(
        metrics={k: math.nan if v is None else v for k, v in record.metrics.items()},
        per_user={k: v for k, v in arrays.items() if k != "users"},
        users=arrays["users"],
        excluded_users=record.users_excluded,
        users_without_targets=record.users_without_targets,
        split="test",
        config=config,
    )


def finite(value: Any) -> Any:
    """Return plain values with every number that is not finite as None, which JSON can hold."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
