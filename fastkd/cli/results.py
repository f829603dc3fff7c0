"""From the finished runs of a study folder to numbers, the report's values, results.json and report.html."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastkd.cli._against_plain import Student, against_plain, gap_test, lead_metric
from fastkd.cli.explain import explain
from fastkd.cli.folders import TEACHER, finished_runs, read_run_info
from fastkd.cli.records import RunRecord, finite, load_record
from fastkd.cli.shares import loss_shares, order_kept, share_notes
from fastkd.core.capability import cpu_count, version_of
from fastkd.core.errors import ConfigError
from fastkd.core.files import write_text
from fastkd.evaluation import (
    Curve,
    MetricSummary,
    PairedTest,
    StudyReport,
    StudyRow,
    Tuned,
    holm,
    recovered_share,
    write_report,
)
from fastkd.presets import PLAIN, StudyConfig

_PACKAGES = ("fastkd", "torch", "numba", "triton", "numpy")


@dataclass(frozen=True)
class StudyResults:
    """``values``: what results.json holds. ``report``: what the page and the terminal show."""

    values: Mapping[str, Any]
    report: StudyReport


def write_results(config: StudyConfig, folder: Path) -> StudyResults:
    """Collect the finished runs, write results.json and report.html, return both."""
    results = collect(config, folder)
    write_text(folder / "results.json", json.dumps(results.values, indent=2, allow_nan=False) + "\n")
    write_report(results.report, folder / "report.html")
    return results


def collect(config: StudyConfig, folder: Path) -> StudyResults:
    """Return the results of what is finished; those of planted data are explained in words."""
    finished = finished_runs(folder)
    if not finished:
        raise ConfigError(f"{folder} holds no finished run yet; go on with: fastkd distill --folder {folder}")
    teacher = load_record(folder / TEACHER) if folder / TEACHER in finished else None
    students = _students([run for run in finished if run != folder / TEACHER], config)
    tests, gap = against_plain(config, students), gap_test(config, teacher, folder / TEACHER, students)
    facts = _read_json(folder / "facts.json")
    values = finite(_values(config, teacher, students, tests, gap, facts))
    if config.data.synthetic is not None:
        facts["explanation"] = explain(config, values)
    report = _report(config, folder, teacher, students, tests, gap, facts)
    return StudyResults(values, dataclasses.replace(report, notes=(*report.notes, *share_notes(values["students"]))))


def _students(runs: Sequence[Path], config: StudyConfig) -> list[Student]:
    """Group finished student runs, in the order of the study's methods, then by name."""
    by_name: dict[str, dict[int, Path]] = {}
    for run in runs:
        by_name.setdefault(run.parent.name, {})[int(run.name.removeprefix("seed"))] = run
    order = [*config.method_names(), *sorted(by_name)]
    names = [name for name in dict.fromkeys(order) if name in by_name]
    return [Student(n, {s: load_record(f) for s, f in by_name[n].items()}, by_name[n]) for n in names]


def _summary(student: Student, metric: str) -> MetricSummary:
    values = [run.metrics.get(metric) for run in student.runs.values()]
    numbers = [math.nan if v is None else v for v in values]
    return MetricSummary(statistics.fmean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else 0.0)


def _values(
    config: StudyConfig,
    teacher: RunRecord | None,
    students: Sequence[Student],
    tests: Mapping[str, Mapping[str, PairedTest]],
    gap: PairedTest | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of results.json."""
    plain = next((s for s in students if s.name == PLAIN), None)
    runs = [r for s in students for r in s.runs.values()] + ([teacher] if teacher else [])
    evaluation = {"mask": config.evaluation.mask, "denominator": config.evaluation.denominator}
    return {
        "study": config.name,
        "description": config.description,
        "lead_metric": lead_metric(config),
        "evaluation": evaluation
        | {"users_evaluated": runs[0].users_evaluated, "users_excluded": runs[0].users_excluded},
        "data": facts.get("data"),
        "teacher": dataclasses.asdict(teacher) if teacher else None,
        "teacher_against_plain": dataclasses.asdict(gap) if gap else None,
        "oracle": facts.get("oracle"),
        "students": {s.name: _student_values(config, s, teacher, plain, tests.get(s.name, {})) for s in students},
        "published": dataclasses.asdict(config.published) if config.published else None,
        "versions": {package: version_of(package) for package in _PACKAGES} | {"python": platform.python_version()},
        "machine": {"cpus": cpu_count(), "system": platform.system(), "architecture": platform.machine()},
        "budget": {
            "seconds": sum(r.seconds for r in runs),
            "epochs": sum(r.epochs_run for r in runs),
            "runs": len(runs),
        },
    }


def _student_values(
    config: StudyConfig,
    student: Student,
    teacher: RunRecord | None,
    plain: Student | None,
    tests: Mapping[str, PairedTest],
) -> dict[str, Any]:
    metrics = next(iter(student.runs.values())).metrics
    summaries = {metric: _summary(student, metric) for metric in metrics}
    values: dict[str, Any] = {
        "method": None if student.name == PLAIN else config.registry_name(student.name),
        "mean": {metric: s.mean for metric, s in summaries.items()},
        "std": {metric: s.std for metric, s in summaries.items()},
        "seeds": {str(seed): dataclasses.asdict(run) for seed, run in student.runs.items()},
        "tuned": dataclasses.asdict(config.tuned[student.name]) if student.name in config.tuned else None,
    }
    if student.name != PLAIN:
        first = next(iter(student.folders.values()))
        values |= {"loss_shares": loss_shares(first), "order_kept": order_kept(first)}
    if student.name != PLAIN and plain is not None:
        if teacher is not None:
            values["recovered"] = {m: _recovered(m, teacher, plain, student) for m in metrics}
        values["against_plain"] = {metric: dataclasses.asdict(test) for metric, test in tests.items()}
    return values


def _recovered(metric: str, teacher: RunRecord, plain: Student, student: Student) -> float | None:
    top = teacher.metrics.get(metric)
    return recovered_share(math.nan if top is None else top, *_matched(metric, plain, student)).share


def _matched(metric: str, plain: Student, student: Student) -> tuple[float, float]:
    """Return the means of the plain student and of another over the seeds that both have, NaN without any."""
    common = plain.runs.keys() & student.runs.keys()
    if not common:
        return math.nan, math.nan
    both = [dataclasses.replace(s, runs={seed: s.runs[seed] for seed in sorted(common)}) for s in (plain, student)]
    return _summary(both[0], metric).mean, _summary(both[1], metric).mean


def _report(
    config: StudyConfig,
    folder: Path,
    teacher: RunRecord | None,
    students: Sequence[Student],
    tests: Mapping[str, Mapping[str, PairedTest]],
    gap: PairedTest | None,
    facts: Mapping[str, Any],
) -> StudyReport:
    lead = lead_metric(config)
    adjusted = holm({name: by_metric[lead].p_value for name, by_metric in tests.items()})
    rows = [dataclasses.replace(_teacher_row(config, teacher, folder), versus_plain=gap)] if teacher else []
    plain = next((s for s in students if s.name == PLAIN), None)
    unlike: list[str] = []
    for student in students:
        row = _student_row(config, student)
        if plain is not None and student.runs.keys() != plain.runs.keys():
            row, unlike = dataclasses.replace(row, matched=_matched(lead, plain, student)), [*unlike, student.name]
        if student.name in tests:
            row = dataclasses.replace(row, versus_plain=tests[student.name][lead], p_adjusted=adjusted[student.name])
        rows.append(row)
    return StudyReport(
        title=config.description.split(". ")[0].rstrip(".") or config.name,
        dataset=str((facts.get("data") or {}).get("name", config.name)),
        metric=lead,
        rows=tuple(rows),
        explanation=str(facts.get("explanation", "")),
        curve_metric=config.student.training.monitor,
        facts=_facts(config, teacher, students, facts),
        published_source=config.published.source if config.published else "",
        notes=(*((config.published.protocol,) if config.published else ()), *_seed_notes(unlike)),
    )


def _seed_notes(unlike: Sequence[str]) -> tuple[str, ...]:
    if not unlike:
        return ()
    named = ", ".join(unlike)
    return (f"Seeds of {named} are not those of the plain student: beside it stand the means of the seeds both have.",)


def _facts(
    config: StudyConfig, teacher: RunRecord | None, students: Sequence[Student], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Return the settings a reader needs to judge the numbers."""
    some = teacher or next(iter(students[0].runs.values()))
    data, lead = facts.get("data") or {}, lead_metric(config)
    shown = {label: f"{data[key]:,}" for label, key in (("Users", "users"), ("Items", "items")) if key in data}
    shown |= {f"{part.capitalize()} rows": f"{n:,}" for part, n in (data.get("rows") or {}).items()}
    shown["Ranking"] = f"whole catalogue, {config.evaluation.mask} items removed"
    shown["Users in the mean"] = f"{some.users_evaluated:,} ({some.users_excluded:,} without targets left out)"
    oracle = (facts.get("oracle") or {}).get(lead)
    if oracle is not None:
        shown["Best possible"] = f"{lead} {oracle:.4f} (the ranking the data were drawn from)"
    versions = [f"{package} {version_of(package)}" for package in _PACKAGES if version_of(package)]
    return shown | {"Versions": ", ".join(versions), "CPU cores": str(cpu_count())}


def _teacher_row(config: StudyConfig, record: RunRecord, folder: Path) -> StudyRow:
    model = config.teacher.model.name if config.teacher and not config.teacher_files else "from files"
    return _row("teacher", "teacher", model, config, [record], [folder / TEACHER])


def _student_row(config: StudyConfig, student: Student) -> StudyRow:
    folders = [student.folders[seed] for seed in student.runs]
    model = read_run_info(folders[0]).model.name
    if student.name == PLAIN:
        return _row("student", "student", model, config, list(student.runs.values()), folders)
    row = _row(student.name, "distilled", model, config, list(student.runs.values()), folders)
    return dataclasses.replace(row, method=config.registry_name(student.name))


def _row(
    name: str, role: Any, model: str, config: StudyConfig, records: Sequence[RunRecord], folders: Sequence[Path]
) -> StudyRow:
    student = Student(name, dict(enumerate(records)), {})
    first, key = records[0], PLAIN if role == "student" else name
    rates = [r.users_per_second for r in records if r.users_per_second is not None]
    rate = statistics.median(rates) if rates else None
    return StudyRow(
        name="plain student" if role == "student" else name,
        role=role,
        model=model,
        dim=first.dim or 0,
        parameters=first.parameters or 0,
        metrics={metric: _summary(student, metric) for metric in first.metrics},
        seeds=len(records),
        train_seconds=statistics.fmean(r.seconds for r in records),
        rank_milliseconds=1000 * first.users_evaluated / rate if rate else None,
        users_per_second=rate,
        curve=read_curve(folders[0], config.student.training.monitor),
        published=config.published.figures.get(key, {}) if config.published else {},
        tuned=Tuned(**vars(config.tuned[key])) if key in config.tuned else None,
    )


def read_curve(run: Path, metric: str) -> Curve | None:
    """Return the validation metric along a run's epochs, None where it was never evaluated."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return None
    points = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        value = (entry.get("metrics") or entry.get("valid") or entry).get(metric)
        if value is not None and "epoch" in entry:
            points[int(entry["epoch"])] = float(value)
    return Curve(tuple(points), tuple(points.values())) if points else None


def _read_json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
