"""How a student is trained: one frozen value, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from fastkd.core.errors import ConfigError, did_you_mean

OptimizerName = Literal["adam", "adamw", "sgd", "row_adam", "row_adamw", "row_adagrad", "row_sgd"]
Amp = Literal["none", "bf16", "fp16"]
Reduction = Literal["sum", "mean"]

_NOT_PART_OF_THE_RESULT = ("device", "checkpoint_every", "keep_every")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Options of one training run.

    ``epochs``: passes over the training interactions. ``batch_size``: interactions per step.
    ``negatives``: sampled items per interaction.

    ``optimizer``: ``adam`` couples weight decay to the gradient (as the published studies do), ``adamw``
    decouples it, ``sgd`` is plain. ``row_*`` update only the rows of the tables that a batch read (weight decay
    included), so that a step costs the same at any number of users and items; for models whose tables are their
    parameters. ``clip_norm``: largest gradient norm of each optimiser group, or None.
    ``amp``: forward pass in that dtype; parameters and their gradients stay float32.
    ``reduction``: of the base loss over the batch. ``sum`` matches published distillation weights.

    ``eval_every``: epochs between evaluations on the validation split, 0 for none. ``patience``:
    evaluations without a better ``monitor`` before training stops, or None. ``monitor``: a metric name as
    evaluation writes it, higher is better.

    ``checkpoint_every``: steps between checkpoints beside those at each evaluation, or None. ``keep_every``: epochs
    between vectors kept in the run folder's ``trajectory/``, for methods that learn from a teacher's earlier states, or
    None. ``log_every``: steps
    between log lines beside the one of each epoch, or None. ``seed``: root of every random stream.
    ``device``: ``auto`` takes CUDA where there is one.
    """

    epochs: int = 100
    batch_size: int = 2048
    negatives: int = 1
    optimizer: OptimizerName = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float | None = None
    amp: Amp = "none"
    reduction: Reduction = "sum"
    eval_every: int = 1
    patience: int | None = None
    monitor: str = "ndcg@10"
    checkpoint_every: int | None = None
    keep_every: int | None = None
    log_every: int | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("negatives", 1), ("eval_every", 0), ("seed", 0)):
            _check_integer(name, getattr(self, name), least)
        for name in ("patience", "checkpoint_every", "keep_every", "log_every"):
            if getattr(self, name) is not None:
                _check_integer(name, getattr(self, name), 1)
        _check_number("lr", self.lr, positive=True)
        _check_number("weight_decay", self.weight_decay, positive=False)
        if self.clip_norm is not None:
            _check_number("clip_norm", self.clip_norm, positive=True)
        hints = get_type_hints(type(self))
        for name in ("optimizer", "amp", "reduction"):
            _check_choice(name, getattr(self, name), get_args(hints[name]))
        if self.clip_norm is not None and self.row_sparse:
            raise ConfigError(
                f"clip_norm={self.clip_norm} needs a dense optimizer (adam, adamw, sgd), got {self.optimizer!r}"
            )
        if self.patience is not None and self.eval_every == 0:
            raise ConfigError(f"patience={self.patience} counts evaluations, but eval_every=0 makes none")

    @property
    def row_sparse(self) -> bool:
        """Return whether the optimiser takes row-sparse gradients."""
        return self.optimizer.startswith("row_")

    def result_mapping(self) -> dict[str, Any]:
        """Return the options that decide the result; two runs that differ in others may share a folder."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_PART_OF_THE_RESULT}


def _check_integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be an integer of at least {least}, got {value!r}")


def _check_number(name: str, value: object, *, positive: bool) -> None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (positive and value == 0):  # type: ignore[operator]
        raise ConfigError(f"{name} must be a finite number {'above' if positive else 'of at least'} 0, got {value!r}")


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}.{did_you_mean(str(value), known)}")
