"""Tests of a study's models against its plain student, over users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastkd.cli.records import RunRecord, load_evaluation
from fastkd.evaluation import Evaluation, PairedTest, mean_evaluation, paired_test
from fastkd.presets import PLAIN, StudyConfig

_COARSE: dict[str, Any] = {"permutations": 2000, "resamples": 500}
"""Effort of the tests of metrics other than the leading one; each test states its own."""


@dataclass(frozen=True)
class Student:
    """The finished runs of one student, by seed."""

    name: str
    runs: Mapping[int, RunRecord]
    folders: Mapping[int, Path]


def lead_metric(config: StudyConfig) -> str:
    """Return the metric that shares and plots refer to: the one training watches, if it is measured."""
    monitor = config.student.training.monitor
    measured = [f"{m}@{k}" for m in config.evaluation.metrics for k in config.evaluation.ks]
    return monitor if monitor in measured else measured[0]


def against_plain(config: StudyConfig, students: Sequence[Student]) -> dict[str, dict[str, PairedTest]]:
    """Return for each distilled student metric -> paired test against the plain one, over their common seeds.

    Per-user values are averaged over seeds first: users are the sample, seeds are not counted as users.
    """
    plain = next((s for s in students if s.name == PLAIN), None)
    if plain is None:
        return {}
    tests: dict[str, dict[str, PairedTest]] = {}
    for student in students:
        common = sorted(set(student.runs) & set(plain.runs))
        if student.name == PLAIN or not common:
            continue
        a, b = _mean(student, common, config), _mean(plain, common, config)
        if len(a.users) >= 2:
            lead = lead_metric(config)
            tests[student.name] = {m: paired_test(a, b, m, **({} if m == lead else _COARSE)) for m in a.per_user}
    return tests


def gap_test(
    config: StudyConfig, teacher: RunRecord | None, folder: Path, students: Sequence[Student]
) -> PairedTest | None:
    """Return the test of the teacher against the plain student in the leading metric, None where one is missing."""
    plain = next((s for s in students if s.name == PLAIN), None)
    if plain is None or teacher is None:
        return None
    top = load_evaluation(folder, teacher, config.evaluation)
    below = _mean(plain, sorted(plain.runs), config)
    return paired_test(top, below, lead_metric(config)) if len(top.users) >= 2 else None


def _mean(student: Student, seeds: Sequence[int], config: StudyConfig) -> Evaluation:
    return mean_evaluation([load_evaluation(student.folders[s], student.runs[s], config.evaluation) for s in seeds])
