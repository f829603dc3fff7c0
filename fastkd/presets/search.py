"""Search spaces of the methods, as data: what ``fastkd distill --tune`` may vary, the same for every preset.

A space is dotted key -> range or choices: ``options.*`` of the method, ``training.*`` of its student. A range is
``{"low": a, "high": b, "log": bool}``, choices a list. Every method has its weight, the weight decay of its student and
one or two keys of its own, so that one budget of trials is fair to all; the plain student has its training alone, a
combination the weight of the whole.
Ranges of weights span the published values (lambda of sums, see README.md).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, TypeGuard

from fastkd.core.errors import ConfigError, did_you_mean
from fastkd.distillation import METHODS
from fastkd.training import TrainingConfig

Space = Mapping[str, Any]

_DECAY = [0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3]


def _weight(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "log": True}


SEARCH: Mapping[str, Space] = {
    "none": {"training.weight_decay": _DECAY, "training.lr": [1e-3, 2e-3, 5e-3]},
    "kd_ce": {
        "options.weight": _weight(0.01, 100.0),
        "options.temperature": [0.5, 1.0, 2.0, 10.0],
        "options.guide": ["student", "teacher"],
        "training.weight_decay": _DECAY,
    },
    "rd": {
        "options.weight": _weight(0.01, 10.0),
        "options.listed": [10, 30, 100],
        "options.position_temperature": [1.0, 5.0, 20.0],
        "training.weight_decay": _DECAY,
    },
    "cd": {
        "options.weight": _weight(0.01, 10.0),
        "options.drawn": [2, 10, 50],
        "options.temperature": [1.0, 2.0, 5.0],
        "training.weight_decay": _DECAY,
    },
    "rrd": {
        "options.weight": _weight(1e-3, 1.0),
        "options.temperature": [10.0, 30.0, 100.0],
        "training.weight_decay": _DECAY,
    },
    "ir_rrd": {
        "options.weight": _weight(1e-3, 1.0),
        "options.item_weight": _weight(1e-4, 0.5),
        "training.weight_decay": _DECAY,
    },
    "dcd": {
        "options.weight": _weight(1e-3, 1.0),
        "options.temperature": [3.0, 10.0, 100.0],
        "training.weight_decay": _DECAY,
    },
    "unkd": {
        "options.weight": _weight(0.1, 10.0),
        "options.groups": [2, 3, 4, 5],
        "options.pairs": [2, 10, 30],
        "training.weight_decay": _DECAY,
    },
    "hetcomp": {
        "options.weight": _weight(5e-4, 0.5),
        "options.ranked": [50, 100],
        "training.weight_decay": _DECAY,
    },
    "prm_kd": {
        "options.weight": _weight(1e-2, 10.0),
        "options.listed": [0, 40],
        "options.temperature": [0.5, 1.0, 2.0],
        "training.weight_decay": _DECAY,
    },
    "rce_kd": {
        "options.weight": _weight(1.0, 1e4),
        "options.beta": [0.5, 3.0, 5.0, 10.0],
        "options.temperature": [1.0, 10.0],
        "training.weight_decay": _DECAY,
    },
    "de": {
        "options.weight": _weight(1e-3, 0.5),
        "options.experts": [1, 5, 10],
        "training.weight_decay": _DECAY,
    },
    "hint": {
        "options.weight": _weight(1e-4, 0.5),
        "options.projector": ["mlp", "linear", "orthogonal"],
        "training.weight_decay": _DECAY,
    },
    "phr": {
        "options.weight": _weight(1e-4, 0.5),
        "options.rank": [1, 4, 8],
        "training.weight_decay": _DECAY,
    },
    "ftd": {"options.weight": _weight(1e-5, 0.1), "training.weight_decay": _DECAY},
    "htd": {
        "options.weight": _weight(1e-4, 1.0),
        "options.gamma": [0.1, 0.5, 0.9],
        "options.experts": [5, 10, 30],
        "training.weight_decay": _DECAY,
    },
    "pckd": {
        "options.weight": _weight(1e-3, 0.5),
        "options.alpha": [0.05, 0.1, 0.5],
        "options.list_temperature": [0.01, 0.1],
        "options.experts": [1, 5, 10],
        "training.weight_decay": _DECAY,
    },
    "freqd": {
        "options.weight": _weight(0.05, 2.0),
        "options.strength": [0.2, 0.5, 0.7],
        "options.order": ["after", "before"],
        "training.weight_decay": _DECAY,
    },
    "de+rrd": {"options.weight": _weight(0.1, 10.0), "training.weight_decay": _DECAY},
    "bd": {
        "options.weight": _weight(0.05, 5.0),
        "options.teacher_weight": _weight(0.05, 5.0),
        "options.rank_sign": [1, -1],
        "training.weight_decay": _DECAY,
    },
}
"""Method -> its space; ``none`` is the plain student."""


_FIXED = ("seed", "monitor", "device", "eval_every", "checkpoint_every", "keep_every", "log_every")
"""Options of training that tuning may not vary: trials would not be comparable, or nothing would change."""


def check_space(path: str, space: Space, method: str) -> None:
    """Refuse a key that the method or its training lacks, and values that are neither choices nor a range."""
    fields = {f"training.{f.name}" for f in dataclasses.fields(TrainingConfig) if f.name not in _FIXED}
    if method in METHODS:
        fields |= {f"options.{f.name}" for f in dataclasses.fields(METHODS.get(method).config_type)}
    for key, values in space.items():
        if key not in fields:
            raise ConfigError(f"{path}: unknown key {key!r}.{did_you_mean(key, sorted(fields))}")
        if isinstance(values, Mapping):
            if not _is_range(values):
                raise ConfigError(f"{path}.{key}: a range is {{low, high, log}} with low < high, got {dict(values)}")
        elif not isinstance(values, (list, tuple)) or not values or not all(map(_is_choice, values)):
            raise ConfigError(f"{path}.{key}: expected choices or a range {{low, high, log}}, got {values!r}")


def _is_choice(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def _is_range(values: Mapping[str, Any]) -> bool:
    low, high = values.get("low"), values.get("high")
    if set(values) - {"low", "high", "log"} or not _is_number(low) or not _is_number(high):
        return False
    return bool(math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not values.get("log")))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
