"""The tables of a study report as text, for the page and for the terminal alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from fastkd.evaluation.study import MetricSummary, ReportTable, StudyReport, StudyRow

MISSING = "\u2013"
"""What stands for a value that does not exist (an en dash)."""

_MINUS = "\u2212"


def report_tables(report: StudyReport) -> tuple[ReportTable, ...]:
    """Return the report's tables in order; those without content are left out."""
    tables = (_quality(report), _cost(report), _significance(report), _published(report), _tuning(report))
    return tuple(table for table in tables if table is not None)


def _quality(report: StudyReport) -> ReportTable:
    names = report.metric_names
    columns = ["Model", *names, "vs plain", "gap recovered"]
    rows, marks = [], _best_students(report, names)
    for row in report.rows:
        cells = [row.name, *(_summary(row.metrics.get(name), row.seeds) for name in names)]
        rows.append([*cells, change(report, row), recovered_text(report, row)])
    runs = sorted({row.seeds for row in report.rows})
    spread = f"Mean ± standard deviation over {_listed(runs)} seeds" if max(runs) > 1 else "One seed per model"
    note = (
        f"{spread}. Bold: the best student. “vs plain” and “gap recovered” refer to {report.metric}; "
        f"gap recovered = (distilled {_MINUS} plain) / (teacher {_MINUS} plain)."
    )
    reasons = {
        f"{row.name}: {reason}"
        for row in report.rows
        if row.role == "distilled" and (reason := report.recovered(row).reason) is not None
    }
    note += "".join(f" Undefined for {reason}." for reason in sorted(reasons))
    return _table(report, "Quality", columns, rows, strong={(r, c + 1) for r, c in marks}, note=note)


def _cost(report: StudyReport) -> ReportTable:
    columns = ["Model", "type", "dim", "parameters", "of teacher", "training", "ranking", "users / s"]
    rows = []
    for row in report.rows:
        teacher = report.of_role(row.group, "teacher")
        share = percent(row.parameters / teacher.parameters) if teacher and teacher.parameters else MISSING
        speed = f"{row.users_per_second:,.0f}" if row.users_per_second is not None else MISSING
        rank = milliseconds(row.rank_milliseconds)
        rows.append(
            [row.name, row.model, str(row.dim), f"{row.parameters:,}", share, seconds(row.train_seconds), rank, speed]
        )
    note = "Training: wall time of one run. Ranking: one sweep over the whole catalogue for all evaluated users."
    return _table(report, "Size and speed", columns, rows, text_columns=(0, 1), note=note)


def _significance(report: StudyReport) -> ReportTable | None:
    tested = [row for row in report.rows if row.versus_plain is not None]
    if not tested:
        return None
    columns = ["Model", "metric", "users", "difference", "interval", "p (flips)", "p (t-test)", "p (Holm)", ""]
    rows = []
    for row in tested:
        test = row.versus_plain
        assert test is not None
        decisive = test.p_value if row.p_adjusted is None else row.p_adjusted
        verdict = (
            ("better" if test.mean_difference > 0 else "worse") if decisive < report.alpha else "no difference shown"
        )
        interval = f"[{signed(test.low)}, {signed(test.high)}]"
        holm = MISSING if row.p_adjusted is None else p_text(row.p_adjusted)
        numbers = [signed(test.mean_difference), interval, p_text(test.p_value), p_text(test.t_p_value), holm]
        rows.append([row.name, test.metric, f"{test.num_users:,}", *numbers, verdict])
    first = tested[0].versus_plain
    assert first is not None
    note = (
        f"Paired over users, against the plain student. p (flips): randomisation test with {first.permutations:,} "
        f"sign flips; interval: {percent(first.confidence)} bootstrap; verdict at {report.alpha:g}, "
        "after Holm's correction where it is given."
    )
    text = (0, 1, len(columns) - 1)
    return _table(report, "Against the plain student", columns, rows, of=tested, text_columns=text, note=note)


def _published(report: StudyReport) -> ReportTable | None:
    shown = [row for row in report.rows if row.published]
    if not shown:
        return None
    names = tuple(n for n in report.metric_names if any(n in row.published for row in shown))
    names += tuple(dict.fromkeys(n for row in shown for n in row.published if n not in names))
    rows = [[row.name, *(c for name in names for c in _beside(row, name))] for row in shown]
    columns = ["Model", *(c for name in names for c in (name, "published"))]
    note = f"Published: {report.published_source}." if report.published_source else ""
    return _table(report, "Beside published figures", columns, rows, of=shown, note=note)


def _tuning(report: StudyReport) -> ReportTable | None:
    shown = [row for row in report.rows if row.tuned is not None]
    if not shown:
        return None
    rows, seeds = [], set()
    for row in shown:
        tuned = row.tuned
        assert tuned is not None
        chosen = ", ".join(f"{key.rpartition('.')[2]} {_value(value)}" for key, value in tuned.values.items())
        rows.append([row.name, str(tuned.trials), tuned.metric, f"{tuned.value:.4f}", chosen])
        seeds.add(tuned.seed)
    note = (
        f"Best of so many trials on the validation split, training seed {_listed(sorted(seeds))}; trial 1 is the "
        "configuration as given. The test split took no part."
    )
    columns = ["Model", "trials", "metric", "validation", "chosen"]
    return _table(report, "Tuning", columns, rows, of=shown, text_columns=(0, 2, 4), note=note)


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _beside(row: StudyRow, name: str) -> tuple[str, str]:
    published = row.published.get(name)
    return _summary(row.metrics.get(name), row.seeds), MISSING if published is None else f"{published:.4f}"


def _table(
    report: StudyReport,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    of: Sequence[StudyRow] | None = None,
    text_columns: Sequence[int] = (0,),
    strong: set[tuple[int, int]] | None = None,
    note: str = "",
) -> ReportTable:
    """Add the group column where a study has several groups."""
    grouped, behind = len(report.groups) > 1, report.rows if of is None else of
    numeric = [at not in text_columns for at in range(len(columns))]
    if grouped:
        columns, numeric = ["Group", *columns], [False, *numeric]
        rows = [[row.group, *cells] for row, cells in zip(behind, rows, strict=True)]
        strong = {(r, c + 1) for r, c in strong or set()}
    return ReportTable(
        title=title,
        columns=tuple(columns),
        rows=tuple(tuple(cells) for cells in rows),
        numeric=tuple(numeric),
        strong=frozenset(strong or ()),
        note=note,
        row_names=tuple((row.group, row.name) for row in behind),
    )


def _best_students(report: StudyReport, names: Sequence[str]) -> set[tuple[int, int]]:
    """Return (row, metric) positions of the best non-teacher of each group, where there is a choice."""
    marks = set()
    for group in report.groups:
        candidates = [i for i, r in enumerate(report.rows) if r.group == group and r.role != "teacher"]
        for column, name in enumerate(names):
            have = [i for i in candidates if name in report.rows[i].metrics]
            if len(have) > 1:
                means = [report.rows[i].metrics[name].mean for i in have]
                marks.add((have[means.index(max(means))], column))
    return marks


def change(report: StudyReport, row: StudyRow) -> str:
    """Return the relative change of the leading metric against the plain student, such as ``+12.3 %``."""
    plain = report.of_role(row.group, "student")
    if plain is None or row is plain:
        return MISSING
    before, after = report.beside_plain(row, plain)
    if before == 0.0:
        return MISSING
    ratio = after / before - 1.0
    return f"{100.0 * ratio:+.1f} %".replace("-", _MINUS) if math.isfinite(ratio) else MISSING


def recovered_text(report: StudyReport, row: StudyRow) -> str:
    """Return the recovered share of a distilled row as text."""
    share = report.recovered(row).share if row.role == "distilled" else None
    return MISSING if share is None else percent(share)


def percent(share: float) -> str:
    """Return ``71 %``; a decimal where the share is below 10 %."""
    digits = 0 if abs(share) >= 0.0995 or share == 0.0 else 1
    return f"{100.0 * share:.{digits}f} %".replace("-", _MINUS)


def seconds(value: float | None) -> str:
    """Return ``8.4 s``, ``12 min 05 s`` or ``3 h 20 min``."""
    if value is None:
        return MISSING
    if value < 100.0:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float | None) -> str:
    """Return ``420 ms``, or seconds from ten seconds on."""
    if value is None:
        return MISSING
    return seconds(value / 1000.0) if value >= 10_000.0 else f"{value:,.{0 if value >= 10 else 1}f} ms"


def signed(value: float) -> str:
    """Return a difference with its sign and four decimals."""
    return f"{value:+.4f}".replace("-", _MINUS)


def p_text(p: float) -> str:
    """Return a p-value with three decimals, or ``< 0.001``."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _summary(summary: MetricSummary | None, seeds: int) -> str:
    if summary is None or not math.isfinite(summary.mean):
        return MISSING
    return f"{summary.mean:.4f} ± {summary.std:.4f}" if seeds > 1 else f"{summary.mean:.4f}"


def _listed(numbers: Sequence[int]) -> str:
    return " or ".join(str(n) for n in numbers)
