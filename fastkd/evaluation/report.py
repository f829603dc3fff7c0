"""The study report: one HTML file that opens offline, without scripts or outside resources."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fastkd.core.files import write_text
from fastkd.evaluation.plots import Plot, colours, plots_available, study_plots
from fastkd.evaluation.study import StudyReport, StudyRow
from fastkd.evaluation.tables import MISSING, percent, report_tables

__all__ = ["headline", "render_report", "report_tables", "write_report"]


@dataclass(frozen=True)
class Card:
    """One key figure at the top of the page."""

    value: str
    label: str
    accent: bool = False


def write_report(report: StudyReport, path: Path | str) -> Path:
    """Write :func:`render_report` to ``path`` atomically and return the path."""
    write_text(path, render_report(report))
    return Path(path)


def render_report(report: StudyReport) -> str:
    """Return the report as one self-contained HTML page; equal reports give equal text.

    Everything the caller supplies is escaped. Without matplotlib the page has its tables and says how to
    get the plots.
    """
    plots = {plot.name: _embeddable(plot) for plot in study_plots(report)}
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            lead=headline(report),
            cards=_cards(report),
            tables={table.title: table for table in report_tables(report)},
            plots=plots,
            plots_missing=not plots_available(),
            swatches=colours(report),
            paragraphs=_paragraphs(report.explanation),
            missing=MISSING,
        )
    )


def headline(report: StudyReport) -> str:
    """Return the finding in one sentence per group, or what keeps it from being said."""
    return " ".join(_finding(report, group) for group in report.groups)


def _finding(report: StudyReport, group: str) -> str:
    prefix = f"{group}: " if len(report.groups) > 1 and group else ""
    best, teacher = report.best(group), report.of_role(group, "teacher")
    if best is None:
        return f"{prefix}no distilled student in this study."
    recovered = report.recovered(best)
    if recovered.share is None:
        return f"{prefix}the share of the teacher's gap is undefined: {recovered.reason}."
    size = ""
    if teacher is not None and teacher.parameters:
        size = f" with {percent(best.parameters / teacher.parameters)} of its parameters"
    if recovered.share <= 0.0:
        return f"{prefix}no distilled student beats the plain one in {report.metric}; {best.name} comes closest{size}."
    if _by_chance(report, best):
        return (
            f"{prefix}no distilled student is shown to differ from the plain one in {report.metric}; {best.name} comes "
            f"out highest{size}."
        )
    return (
        f"{prefix}{best.name} recovers {percent(recovered.share)} of the teacher's advantage in {report.metric}{size}."
    )


def _by_chance(report: StudyReport, row: StudyRow) -> bool:
    """Return whether the row's difference from the plain student may be chance, after correction where there is one."""
    test = row.versus_plain
    if test is None:
        return False
    return (test.p_value if row.p_adjusted is None else row.p_adjusted) >= report.alpha


def _cards(report: StudyReport) -> list[Card]:
    """Return the key figures of the first group; a study of several groups reads better as tables."""
    if len(report.groups) > 1:
        return []
    group = report.groups[0]
    teacher, student, best = report.of_role(group, "teacher"), report.of_role(group, "student"), report.best(group)
    named: list[tuple[StudyRow | None, str]] = [(teacher, "teacher"), (student, "plain student")]
    cards = [
        Card(f"{row.metrics[report.metric].mean:.4f}", f"{label}, {report.metric}")
        for row, label in named
        if row is not None
    ]
    if best is not None:
        cards.append(Card(f"{best.metrics[report.metric].mean:.4f}", f"{best.name}, {report.metric}", accent=True))
        share = report.recovered(best).share
        if share is not None and not _by_chance(report, best):
            cards.append(Card(percent(share), "of the gap recovered", accent=True))
    small = best or student
    if small is not None and teacher is not None and 0 < small.parameters < teacher.parameters:
        cards.append(Card(f"{teacher.parameters / small.parameters:.3g}\u00d7", "fewer parameters than the teacher"))
    return cards


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def _embeddable(plot: Plot) -> dict[str, str]:
    # The SVG text is matplotlib's, which escapes every label it is given.
    return {"title": plot.title, "caption": plot.caption, "svg": Markup(plot.svg)}


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("fastkd.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
