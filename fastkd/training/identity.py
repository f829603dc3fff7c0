"""What makes two runs the same run: a checkpoint of one may be resumed by the other."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from fastkd.core.config import to_mapping
from fastkd.data.dataset import Dataset
from fastkd.distillation.method import Method
from fastkd.evaluation import EvalConfig
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher
from fastkd.training.checkpoint import Identity
from fastkd.training.config import TrainingConfig

_EVALUATION_COST_ONLY = ("memory_budget_mb", "backend", "path")


def identity_of(
    student: Recommender,
    data: Dataset,
    config: TrainingConfig,
    evaluation: EvalConfig,
    *,
    method: Method | None = None,
    teacher: Teacher | None = None,
) -> Identity:
    """Return everything that decides a run's result, as plain values.

    The student's shape and options enter, and of one from ``build_model`` its configuration and seed; not its weights,
    which a checkpoint replaces: of a student made or changed by hand nothing says what it began with.
    """
    ranking = {k: v for k, v in to_mapping(evaluation).items() if k not in _EVALUATION_COST_ONLY}
    values = {
        "training": config.result_mapping(),
        "evaluation": ranking,
        "student": _student(student),
        "method": _method(method) if method is not None else None,
        "teacher": teacher.fingerprint() if method is not None and teacher is not None else None,
    }
    # through JSON, so that it compares equal to what a manifest gives back
    return Identity(json.loads(json.dumps(values, default=str)), data.content_hash())


def _student(student: Recommender) -> dict[str, Any]:
    shapes = {name: list(parameter.shape) for name, parameter in student.named_parameters()}
    described: dict[str, Any] = {"class": type(student).__qualname__, "parameters": shapes}
    options = dict(student.options())
    described |= {"options": options} if options else {}
    return described | ({"built_from": dict(student.built_from)} if student.built_from is not None else {})


def _method(method: Method) -> dict[str, Any]:
    options = to_mapping(method.config) if dataclasses.is_dataclass(method.config) else method.config
    return {"name": method.name, "seed": method.seeds.root, "options": options}
