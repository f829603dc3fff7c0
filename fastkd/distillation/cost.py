"""What a method costs at a given size: arithmetic and memory traffic, counted and not measured.

A multiply-add is two flops; an embedding value has four bytes. Traffic is the least there can be: a table read once
per block of users, listed rows read once forward and, with a gradient, read and written once more. Draws count by the
bytes they leave. What a machine makes of it, ``fastkd bench`` and the benchmarks say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

VALUE = 4
"""Bytes of a float32 value or an int32 id."""

USER_BLOCK = 8192
"""Users ranked by one sweep over the catalogue."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Where a cost is asked for: ``dim`` of the student, ``teacher_dim``, ``batch`` rows a step."""

    users: int
    items: int
    dim: int
    teacher_dim: int
    batch: int
    interactions: int

    def __post_init__(self) -> None:
        for name in ("users", "items", "dim", "teacher_dim", "batch", "interactions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def batch_users(self) -> float:
        """Distinct users expected among the rows of a batch, were each row anybody's."""
        return distinct(self.batch, self.users)


@dataclass(frozen=True)
class Work:
    """Floating-point operations and bytes moved."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Work) -> Work:
        """Return both, one after the other."""
        return Work(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: float) -> Work:
        """Return the same ``times`` over."""
        return Work(self.flops * times, self.bytes * times)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a method adds to training its student alone.

    ``step``: beside one step of the base loss, gradients included. ``prepare``: once. ``refresh``: the draws and lists
    made anew before every ``every``-th epoch. ``memory``: bytes kept from one step to the next, beside the models.
    """

    step: Work
    prepare: Work = Work()
    refresh: Work = Work()
    every: int = 1
    memory: float = 0.0


def distinct(draws: float, population: int) -> float:
    """Return how many different ones ``draws`` uniform draws with replacement are expected to find."""
    return -population * math.expm1(draws * math.log1p(-1.0 / population)) if population > 1 else 1.0


def ranking(users: float, items: float, dim: int) -> Work:
    """Return one exact ranking of the catalogue for ``users``: every score, none of them stored."""
    return Work(2.0 * users * items * dim, VALUE * dim * (users + items * math.ceil(users / USER_BLOCK)))


def scoring(rows: float, columns: float, dim: int, *, gradient: bool = True) -> Work:
    """Return the inner products of ``rows`` users with ``columns`` listed items each, and their gradients."""
    passes = 3.0 if gradient else 1.0
    return Work(2.0 * rows * columns * dim, VALUE * rows * columns * dim) * passes


def storing(rows: float, columns: float, *, values: int = 1) -> Work:
    """Return the writing of ``values`` tables of ids or scores, rows x columns."""
    return Work(0.0, held(rows, columns, values=values))


def held(rows: float, columns: float, *, values: int = 1) -> float:
    """Return the bytes of ``values`` tables of ids or scores, rows x columns."""
    return float(VALUE * rows * columns * values)
