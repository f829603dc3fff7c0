"""What a case declares: an op, its inputs, what it must move, the tests that stand behind it, the points to time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fastkd.core.errors import ConfigError

Inputs = dict[str, Any]
"""Tensors and whatever else a call reads, by name."""

Call = Callable[[], Any]
Pass = Literal["forward", "backward", "both"]
Table = Literal["random", "trained", "sorted", "equal"]

PASSES: tuple[Pass, ...] = ("forward", "backward", "both")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True)
class Point:
    """One thing to time. ``sizes``: by letter, as the op's page names them; ``tags``: when it is chosen.

    ``table``: ``random`` normal; ``trained``: clusters, falling spectrum, log-normal lengths; ``sorted``: ascending by
    nearly every user's score; ``equal``: all scores tie. Tags: ``quick``, ``cpu``, ``cuda``, ``sweep``, ``slow``.
    """

    sizes: Mapping[str, int]
    tags: frozenset[str] = frozenset({"cpu"})
    dtype: str = "float32"
    table: Table = "random"

    def __getitem__(self, letter: str) -> int:
        """Return a size; letters that a point does not name are 0."""
        return self.sizes.get(letter, 0)

    @property
    def element(self) -> int:
        """Return the bytes of one number of a table."""
        return BYTES[self.dtype]

    def label(self) -> str:
        """Return the point as one reads it: ``B=256 N=1M D=64 K=100``, dtype and table where they are not the usual."""
        words = [f"{letter}={short(size)}" for letter, size in self.sizes.items()]
        words += [self.dtype] if self.dtype != "float32" else []
        return " ".join(words + ([self.table] if self.table != "random" else []))

    def sized(self, sizes: Mapping[str, int]) -> Point:
        """Return the point with other sizes; raises ``ConfigError`` for a letter it does not have."""
        unknown = [letter for letter in sizes if letter not in self.sizes]
        if unknown:
            raise ConfigError(f"no size {unknown[0]!r}; this case has {', '.join(self.sizes)}")
        return replace(self, sizes={**self.sizes, **sizes})


def at(tags: str = "cpu", *, dtype: str = "float32", table: Table = "random", **sizes: int) -> Point:
    """Return a point; ``tags`` are words."""
    return Point(sizes, frozenset(tags.split()), dtype, table)


@dataclass(frozen=True)
class Part:
    """A call that does ``1 / scale`` of the job, because the whole would take hours; ``note`` says which part."""

    run: Call
    scale: float
    note: str = ""

    def __call__(self) -> Any:
        """Do the part."""
        return self.run()


@dataclass(frozen=True)
class Work:
    """What a call cannot do without: floating-point operations, bytes to and from memory, and what it produces."""

    flops: float
    bytes: float
    units: float


Make = Callable[[Point, int, str], Inputs]
"""(point, seed, device) -> inputs."""

Same = Callable[[Any, Any, Inputs], str | None]
"""(ours, theirs, inputs) -> why they disagree, or None."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A thing to time.

    ``call(inputs, backend)`` runs fastkd's op; a loss per row if ``leaves`` name what gets a gradient. ``work``: of the
    forward pass; ``backward``: what the gradient adds. ``check``: a small odd point whose result is compared with the
    reference before anything is timed, on every machine; ``tests``: files that must pass first, where there is a
    checkout. ``unit``: what ``Work.units`` counts. ``floor``: whether a roofline says anything. ``rounds``: of a whole
    job, which contenders do one after another, each freed before the next begins; else rounds are taken in turns for
    the time that is set. ``threads``: of a case that is about one core. ``predict``: milliseconds
    by the op's own model, shown beside what was measured.
    """

    name: str
    summary: str
    make: Make
    call: Callable[[Inputs, str], Any]
    work: Callable[[Point], Work]
    check: Point | None
    points: tuple[Point, ...]
    tests: tuple[str, ...]
    same: Same
    backward: Callable[[Point], Work] | None = None
    leaves: tuple[str, ...] = ()
    unit: str = "scores"
    sweeps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    threads: int | None = None
    predict: Callable[[Point], float] | None = None
    floor: bool = True
    rounds: int | None = None

    @property
    def passes(self) -> tuple[Pass, ...]:
        """Return what can be timed of it."""
        return PASSES if self.leaves else ("forward",)

    def total(self, point: Point, which: Pass) -> Work:
        """Return the work of a pass."""
        forward = self.work(point)
        if which == "forward" or self.backward is None:
            return forward
        back = self.backward(point)
        if which == "backward":
            return back
        return Work(forward.flops + back.flops, forward.bytes + back.bytes, forward.units)

    def swept(self) -> tuple[Point, ...]:
        """Return the points of the sweeps: the first point, one size at a time changed."""
        centre = self.points[0]
        found = [
            replace(centre.sized({letter: size}), tags=frozenset({"sweep", "cpu", "cuda"}))
            for letter, sizes in self.sweeps.items()
            for size in sizes
        ]
        return tuple(p for i, p in enumerate(found) if p not in found[:i])


def short(number: float) -> str:
    """Return a size as people write it: 1500, 100k, 1M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit and number % (limit / 10) == 0:
            return f"{number / limit:g}{unit}"
    return f"{number:g}"
