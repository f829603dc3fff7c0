"""What a study report shows, as plain values: no arrays, no models, readable back from JSON or YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastkd.core.errors import DataError, did_you_mean
from fastkd.evaluation.recovered import Recovered, recovered_share
from fastkd.evaluation.significance import PairedTest

Role = Literal["teacher", "student", "distilled"]


@dataclass(frozen=True)
class MetricSummary:
    """Mean of a metric over seeds, and its standard deviation (0 with one seed)."""

    mean: float
    std: float = 0.0


@dataclass(frozen=True)
class Curve:
    """A validation metric along training: one value per evaluated epoch."""

    epochs: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.epochs) != len(self.values):
            raise DataError(f"a curve of {len(self.epochs)} epochs holds {len(self.values)} values")


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What tuning chose for a model: the best of ``trials`` by ``metric`` on the validation split."""

    trials: int
    seed: int
    metric: str
    value: float
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One model of a study.

    ``role``: ``"teacher"``, ``"student"`` (trained without a teacher) or ``"distilled"``. ``group`` joins a
    teacher with its students when a study holds several. ``metrics``: ``"ndcg@10"`` -> summary over seeds.
    ``rank_milliseconds``: one evaluation sweep; ``users_per_second``: its throughput. ``versus_plain``: test
    of this row against the plain student, with ``p_adjusted`` (Holm) over the study's comparisons. ``matched``: means
    of the leading metric of the plain student and of this row over the seeds that both have, where one has others too
    (NaN without a common one); None where their seeds are the same.
    """

    name: str
    role: Role
    model: str
    dim: int
    parameters: int
    metrics: Mapping[str, MetricSummary]
    group: str = ""
    method: str = ""
    seeds: int = 1
    train_seconds: float | None = None
    rank_milliseconds: float | None = None
    users_per_second: float | None = None
    curve: Curve | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    versus_plain: PairedTest | None = None
    p_adjusted: float | None = None
    tuned: Tuned | None = None
    matched: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """A whole study.

    ``metric`` leads: shares, plots and the ordering of methods refer to it. ``explanation``: why distillation
    helps here, plain text, paragraphs parted by empty lines. ``facts``: label -> text, shown as settings.
    ``generated``: a date or None; the report never reads the clock itself.
    """

    title: str
    dataset: str
    metric: str
    rows: tuple[StudyRow, ...]
    explanation: str = ""
    curve_metric: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    published_source: str = ""
    notes: tuple[str, ...] = ()
    alpha: float = 0.05
    generated: str | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError("a study report needs at least one row")
        for row in self.rows:
            if row.role not in ("teacher", "student", "distilled"):
                raise DataError(f"row {row.name!r} has role {row.role!r}; known: teacher, student, distilled")
            if self.metric not in row.metrics:
                known = sorted(row.metrics)
                hint = did_you_mean(self.metric, known)
                raise DataError(f"row {row.name!r} has no {self.metric!r}.{hint} It has: {', '.join(known)}")
        self._check_unique()

    def _check_unique(self) -> None:
        seen: set[tuple[str, str]] = set()
        for row in self.rows:
            # One teacher and one plain student per group: shares of the gap would else be ambiguous.
            keys = [(row.group, f"name {row.name!r}")]
            if row.role != "distilled":
                keys.append((row.group, f"role {row.role!r}"))
            for key in keys:
                if key in seen:
                    raise DataError(f"two rows of group {row.group!r} have {key[1]}")
                seen.add(key)

    def of_role(self, group: str, role: Role) -> StudyRow | None:
        """Return the teacher or plain student of a group, or None."""
        return next((r for r in self.rows if r.group == group and r.role == role), None)

    @property
    def groups(self) -> tuple[str, ...]:
        """Group names in order of first appearance."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """All metric names in order of first appearance, the leading one first."""
        return tuple(dict.fromkeys([self.metric, *(name for row in self.rows for name in row.metrics)]))

    def recovered(self, row: StudyRow) -> Recovered:
        """Return the share of the teacher's gap that a distilled row recovers in the leading metric."""
        teacher, student = self.of_role(row.group, "teacher"), self.of_role(row.group, "student")
        if teacher is None or student is None:
            return Recovered(None, f"the study has no {'teacher' if teacher is None else 'plain student'} here")
        gap = teacher.versus_plain
        if gap is not None and gap.p_value >= self.alpha:
            return Recovered(None, f"the teacher is not shown to differ from the plain student (p = {gap.p_value:.2g})")
        plain, own = self.beside_plain(row, student)
        return recovered_share(teacher.metrics[self.metric].mean, plain, own)

    def beside_plain(self, row: StudyRow, plain: StudyRow) -> tuple[float, float]:
        """Return the leading metric of the plain student and of ``row``, means over the same seeds."""
        return row.matched or (plain.metrics[self.metric].mean, row.metrics[self.metric].mean)

    def best(self, group: str) -> StudyRow | None:
        """Return the distilled row with the highest leading metric (the first among equals), or None."""
        rows = [r for r in self.rows if r.group == group and r.role == "distilled"]
        return max(rows, key=lambda r: _finite(r.metrics[self.metric].mean)) if rows else None


@dataclass(frozen=True)
class ReportTable:
    """Text of one table. ``strong``: (row, column) positions to emphasise; ``numeric``: columns to align right."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    note: str = ""
    row_names: tuple[tuple[str, str], ...] = ()
    """(group, name) of the study row behind each table row."""


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf
