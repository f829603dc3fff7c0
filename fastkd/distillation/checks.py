"""What every method checks once: its options, and that teacher, student and data are of one shape."""

from __future__ import annotations

import math

import torch

from fastkd.core.errors import ConfigError, TeacherError
from fastkd.core.interactions import Interactions
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher


def at_least(minimum: int, **values: int) -> None:
    """Refuse any named value below ``minimum``."""
    for name, value in values.items():
        if value < minimum:
            raise ConfigError(f"{name} must be at least {minimum}, got {value}")


def positive(**values: float) -> None:
    """Refuse any named value that is not a finite number above 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be a positive number, got {value}")


def not_negative(**values: float) -> None:
    """Refuse any named value that is not a finite number of at least 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(f"{name} must be a number of at least 0, got {value}")


def below_one(**values: float) -> None:
    """Refuse any named value outside [0, 1)."""
    for name, value in values.items():
        if not 0.0 <= value < 1.0:
            raise ConfigError(f"{name} must be a number in [0, 1), got {value}")


def finite(**values: float) -> None:
    """Refuse any named value that is not a finite number."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ConfigError(f"{name} must be a finite number, got {value}")


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Refuse a value outside ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"{name}={value!r} is not allowed. One of: {', '.join(map(str, allowed))}")


def same_shape(teacher: Teacher, student: Recommender, train: Interactions) -> None:
    """Refuse a teacher or student over other users or items than the training interactions."""
    wanted = (train.num_users, train.num_items)
    for name, part in (("teacher", teacher), ("student", student)):
        if (part.num_users, part.num_items) != wanted:
            raise TeacherError(
                f"the {name} covers {part.num_users} users x {part.num_items} items, "
                f"the training data {wanted[0]} users x {wanted[1]} items"
            )


def device_of(student: Recommender) -> torch.device:
    """Return the device of the student's parameters."""
    return next(student.parameters()).device
