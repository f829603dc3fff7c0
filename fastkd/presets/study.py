"""The shape of a study: one data set, a teacher, a student, and the methods that carry knowledge between them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError
from fastkd.data import DataConfig
from fastkd.distillation import METHODS
from fastkd.evaluation import EvalConfig
from fastkd.models import ModelConfig
from fastkd.presets.search import SEARCH, Space, check_space
from fastkd.training import TrainingConfig

PLAIN = "none"
"""The name of the student trained without a teacher; every share of recovered quality is counted from it."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, kw_only=True)
class RoleConfig:
    """A model and how it is trained alone."""

    model: ModelConfig
    training: TrainingConfig


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One distilled student.

    ``method`` is a name in ``METHODS``; None takes the key this entry stands under, so that variants of one
    method can stand beside each other (``rrd-topk: {method: rrd, options: {...}}``). ``options`` go to the
    method's own configuration, ``training`` overrides the student's training configuration. ``warm_start`` names
    the student of this study (same seed) whose best weights training starts from, for methods that train on
    from converged models; None starts afresh. ``search``: dotted key (``options.weight``, ``training.lr``) -> choices
    or a range ``{low, high, log}`` that tuning may take it from; empty takes the method's of ``presets.search``.
    """

    method: str | None = None
    warm_start: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TunedConfig:
    """What tuning chose for a student: ``values`` (dotted key -> value) of the best of ``trials`` trials.

    ``value``: the best trial's ``metric`` on the validation split with training seed ``seed``.
    """

    trials: int
    seed: int
    metric: str
    value: float
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """Figures printed by others, to stand beside ours; ``protocol`` says how far the two may be compared.

    ``figures``: row name (``teacher``, ``none``, a method) -> metric -> value.
    """

    source: str
    protocol: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """Everything a study is: ``fastkd distill`` runs it, its YAML is kept beside the results.

    ``teacher`` may be absent when ``teacher_files`` names a run folder, embeddings or lists. ``seeds`` are the
    students' training seeds (initial values, order, draws); the teacher's is in its own training configuration.
    ``tuned``: what ``fastkd distill --tune`` chose for a student, in force over its own options and training.
    """

    name: str
    description: str = ""
    data: DataConfig
    teacher: RoleConfig | None = None
    teacher_files: tuple[str, ...] = ()
    student: RoleConfig
    methods: Mapping[str, MethodConfig] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    published: PublishedConfig | None = None
    tuned: Mapping[str, TunedConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"name {self.name!r} does not do for a folder: letters, digits, '.', '_', '+' and '-'")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ConfigError(f"seeds must be distinct integers of at least 0, got {list(self.seeds)}")
        if self.teacher is None and not self.teacher_files:
            raise ConfigError("a study needs a teacher: give teacher (model, training) or teacher_files")
        for key, entry in self.methods.items():
            _check_method(key, entry)
            if entry.warm_start is not None and entry.warm_start not in self.method_names()[: self._position(key)]:
                raise ConfigError(
                    f"methods.{key}.warm_start: {entry.warm_start!r} is no student before it; "
                    f"before it: {', '.join(self.method_names()[: self._position(key)]) or 'nothing'}"
                )
            self.training_of(key, self.seeds[0])
            check_space(f"methods.{key}.search", self.search_of(key), self.registry_name(key))
        for key in self.tuned:
            if key not in self.method_names():
                raise ConfigError(f"tuned.{key} is no student of this study: {', '.join(self.method_names())}")
            chosen = {name: [value] for name, value in self.tuned[key].values.items()}
            check_space(f"tuned.{key}.values", chosen, self.registry_name(key))
            self.options_of(key)
            self.training_of(key, self.seeds[0])

    def method_names(self) -> tuple[str, ...]:
        """Return every student of the study, the plain one first."""
        return (PLAIN, *(name for name in self.methods if name != PLAIN))

    def _position(self, name: str) -> int:
        return self.method_names().index(name)

    def registry_name(self, name: str) -> str:
        """Return the registered method behind the study's student ``name``."""
        entry = self.methods.get(name)
        return (entry.method if entry else None) or name

    def search_of(self, name: str) -> Space:
        """Return what tuning may vary of student ``name``."""
        entry = self.methods.get(name)
        return (entry.search if entry else None) or SEARCH.get(self.registry_name(name), {})

    def training_of(self, name: str, seed: int) -> TrainingConfig:
        """Return how student ``name`` is trained with ``seed``: the student's configuration and its overrides."""
        entry = self.methods.get(name, MethodConfig())
        merged = to_mapping(self.student.training) | dict(entry.training) | self._tuned(name, "training")
        return from_mapping(TrainingConfig, merged | {"seed": seed}, path=f"methods.{name}.training")

    def options_of(self, name: str) -> dict[str, Any]:
        """Return every option of the method of student ``name``, defaults included; the plain student has none."""
        if name == PLAIN:
            return {}
        tuned = self._tuned(name, "options")
        entry, kind = self.methods.get(name, MethodConfig()), METHODS.get(self.registry_name(name))
        made: Any = from_mapping(kind.config_type, {**entry.options, **tuned}, path=f"methods.{name}.options")
        return to_mapping(made)

    def _tuned(self, name: str, part: str) -> dict[str, Any]:
        values = self.tuned[name].values if name in self.tuned else {}
        return {key.removeprefix(f"{part}."): v for key, v in values.items() if key.startswith(f"{part}.")}


def _check_method(key: str, entry: MethodConfig) -> None:
    if not _NAME.fullmatch(key):
        raise ConfigError(f"methods.{key}: the name does not do for a folder: letters, digits, '.', '_', '+' and '-'")
    if key == PLAIN:
        if entry.options or entry.method not in (None, PLAIN):
            raise ConfigError(f"methods.{PLAIN} is the student without a teacher; it takes training overrides only")
        return
    kind: Any = METHODS.get(entry.method or key)
    from_mapping(kind.config_type, entry.options, path=f"methods.{key}.options")
