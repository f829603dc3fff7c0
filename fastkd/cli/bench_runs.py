"""From the options of ``fastkd bench`` to points, and the run over them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from fastkd.bench import CASES, Case, Point, Roofline, Settings, case_named, chosen, measure, run_case
from fastkd.bench.case import PASSES
from fastkd.bench.gate import judge_together, parallel_tests
from fastkd.bench.peers import peer_named
from fastkd.bench.record import completed
from fastkd.bench.where import surroundings
from fastkd.core.errors import ConfigError

if TYPE_CHECKING:
    from fastkd.bench.base import Base

QUICK_SECONDS, SECONDS = 0.5, 5.0

QUICK_LIMIT = 40.0
"""Seconds after which a quick run begins no other cases. The first one after installing compiles the kernels."""

_LATER = (
    f"a quick run begins nothing after {QUICK_LIMIT:.0f} s; what it has compiled and tested is kept, "
    "the next one gets further"
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The command's options as they were typed."""

    cases: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    against: tuple[str, ...] = ("torch",)
    base: str | None = None
    passes: tuple[str, ...] = ("both",)
    device: str | None = None
    threads: int | None = None
    seconds: float | None = None
    quick: bool = False
    sweep: bool = False
    slow: bool = False


@dataclass(frozen=True)
class Run:
    """Cases with their points, and how to run them."""

    todo: tuple[tuple[Case, tuple[Point, ...]], ...]
    settings: Settings
    base: str | None

    @property
    def device(self) -> str:
        """Return where it runs."""
        return self.settings.device

    def listed(self) -> list[dict[str, Any]]:
        """Return a row per case: its points, tests and passes."""
        return [
            {
                "case": case.name, "summary": case.summary, "passes": list(case.passes), "tests": list(case.tests),
                "points": [point.label() for point in points],
            }
            for case, points in self.todo
        ]  # fmt: skip

    def measure(self) -> Roofline:
        """Measure what this machine can do."""
        return measure(self.device, seconds=1.5 if self.settings.quick else 3.0)

    def rows(self, roof: Roofline) -> Iterator[dict[str, Any]]:
        """Run everything; yield complete rows as they come."""
        about, began = surroundings(self.device), time.monotonic()
        base = self._base(roof)
        try:
            for some in self._together():
                late = self.settings.quick and time.monotonic() - began > QUICK_LIMIT
                if not late:
                    judge_together([case for case, _ in some], quick=self.settings.quick)
                for case, points in some:
                    found: Iterable[dict[str, Any]]
                    if late:
                        found = [{"case": case.name, "contender": "fastkd", "skipped": _LATER}]
                    else:
                        found = run_case(case, points, self.settings, roof) if base is None else base.rows(case, points)
                    for row in found:
                        yield completed(row, about, roof)
        finally:
            if base is not None:
                base.close()

    def _together(self) -> Iterator[tuple[tuple[Case, tuple[Point, ...]], ...]]:
        """Yield what is tested together: all of it, or a few cases at a time where figures must come soon."""
        few = max(2, parallel_tests()) if self.settings.quick else max(1, len(self.todo))
        for start in range(0, len(self.todo), few):
            yield self.todo[start : start + few]

    def _base(self, roof: Roofline) -> Base | None:
        if self.base is None:
            return None
        from fastkd.bench.base import Base

        return Base(self.base, self.settings, roof)


def prepare(wanted: Wanted) -> Run:
    """Check the options and choose cases and points; raises ``ConfigError``."""
    device = wanted.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no CUDA device; see `fastkd doctor`")
    unknown = [name for name in wanted.passes if name not in PASSES]
    if unknown:
        raise ConfigError(f"a pass is one of {', '.join(PASSES)}, got {unknown[0]!r}")
    for name in wanted.against:
        peer_named(name)
    if wanted.threads is not None:
        torch.set_num_threads(wanted.threads)
    cases = [case_named(name) for name in wanted.cases] or list(CASES.values())
    settings = Settings(
        device=device, against=wanted.against, passes=tuple(p for p in PASSES if p in wanted.passes),
        seconds=wanted.seconds or (QUICK_SECONDS if wanted.quick else SECONDS), quick=wanted.quick,
    )  # fmt: skip
    todo = [(case, _points(case, device, wanted)) for case in cases]
    if wanted.cases and not wanted.shapes:
        empty = [case.name for case, points in todo if not points]
        if empty:
            raise ConfigError(f"{empty[0]} has no such points on {device}; try --slow, without --quick, or --shape")
    return Run(tuple((case, points) for case, points in todo if points), settings, wanted.base)


def _points(case: Case, device: str, wanted: Wanted) -> tuple[Point, ...]:
    if not wanted.shapes:
        return chosen(case, device, quick=wanted.quick, sweep=wanted.sweep, slow=wanted.slow)
    if not wanted.cases:
        raise ConfigError("--shape needs the name of a case: fastkd bench rank_topk --shape B=256")
    centre = next((p for p in case.points if device in p.tags), case.points[0])
    return tuple(_point(centre, text) for text in wanted.shapes)


def _point(centre: Point, text: str) -> Point:
    """Return the centre with sizes, dtype or table replaced, from ``B=256,N=1e6,dtype=bfloat16``."""
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, sign, value = part.strip().partition("=")
        if not sign:
            raise ConfigError(f"a shape is LETTER=SIZE, comma-separated, got {part!r}")
        if name == "dtype":
            centre = replace(centre, dtype=value)
        elif name == "table":
            centre = replace(centre, table=value)  # type: ignore[arg-type]  # checked below
        else:
            sizes[name] = _size(name, value)
    _check(centre)
    return replace(centre.sized(sizes), tags=frozenset({"chosen"}))


def _size(name: str, value: str) -> int:
    try:
        size = float(value)
    except ValueError:
        size = -1.0
    if size < 0 or size != int(size):
        raise ConfigError(f"{name} must be a whole number of at least 0, got {value!r}")
    return int(size)


def _check(point: Point) -> None:
    from typing import get_args

    from fastkd.bench.case import BYTES, Table

    for name, value, known in (("dtype", point.dtype, tuple(BYTES)), ("table", point.table, get_args(Table))):
        if value not in known:
            raise ConfigError(f"{name} is one of {', '.join(known)}, got {value!r}")
