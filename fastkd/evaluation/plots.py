"""The figures of a study report: SVG text from matplotlib, which is an optional extra (``plots``).

Output is a pure function of the report: a fixed hash salt, no dates, text kept as text.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastkd.core.capability import has_module
from fastkd.evaluation.study import StudyReport, StudyRow

TEACHER, PLAIN = "#3f3f46", "#a1a1aa"
ACCENTS = ("#0f766e", "#b45309", "#6d28d9", "#be123c", "#0369a1", "#4d7c0f", "#a21caf", "#854d0e")
_INK, _GRID, _LEADER = "#3f3f46", "#e4e4e7", "#c4c4cc"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fastkd",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
}


@dataclass(frozen=True)
class Plot:
    """One figure: ``svg`` is markup to inline, ``caption`` and ``title`` are plain text."""

    name: str
    title: str
    caption: str
    svg: str


def plots_available() -> bool:
    """Return whether matplotlib is installed."""
    return has_module("matplotlib")


def colours(report: StudyReport) -> dict[tuple[str, str], str]:
    """Return the colour of each row, keyed by (group, name); the same in every figure and table.

    The best distilled student of the first group takes the page's accent.
    """
    best = report.best(report.groups[0])
    names = [row.name for row in report.rows if row.role == "distilled"]
    accents = {name: i for i, name in enumerate(dict.fromkeys([best.name, *names] if best else names))}
    fixed = {"teacher": TEACHER, "student": PLAIN}
    return {(r.group, r.name): fixed.get(r.role) or ACCENTS[accents[r.name] % len(ACCENTS)] for r in report.rows}


def study_plots(report: StudyReport) -> list[Plot]:
    """Return the figures of a report; none without matplotlib."""
    if not plots_available():
        return []
    plots = [
        Plot(
            "quality",
            f"{report.metric} by model",
            f"{report.metric}; whiskers: ± one standard deviation over seeds"
            + ("; dashed lines: the teacher and the plain student." if len(report.groups) == 1 else "."),
            _draw(_bars, report, "quality", height=0.9 + 0.42 * len(report.rows)),
        )
    ]
    if any(row.curve and row.curve.epochs for row in report.rows):
        metric = report.curve_metric or report.metric
        caption = f"Validation {metric} along training."
        plots.append(Plot("curves", "Learning curves", caption, _draw(_curves, report, "curves", height=4.0)))
    if len({row.parameters for row in report.rows}) > 1:
        caption = f"{report.metric} against the number of parameters (logarithmic). Up and to the left is better."
        plots.append(Plot("size", "Quality against size", caption, _draw(_size, report, "size", height=4.0)))
    return plots


def _draw(plot: Callable[[Any, StudyReport], None], report: StudyReport, name: str, *, height: float) -> str:
    """Draw one figure and return its SVG element, its ids prefixed so that figures do not collide."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A label in a script the bundled font lacks: the reader's browser has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure = Figure(figsize=(10.0, height), layout="constrained")
        plot(figure.subplots(), report)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    return re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\g<1>{name}-", text)


def _bars(axes: Any, report: StudyReport) -> None:
    palette, places = colours(report), list(range(len(report.rows)))[::-1]
    means = [_number(row.metrics[report.metric].mean) for row in report.rows]
    spreads = [_number(row.metrics[report.metric].std) for row in report.rows]
    tints = [palette[row.group, row.name] for row in report.rows]
    if len(report.groups) == 1:
        for role, tint in (("teacher", TEACHER), ("student", PLAIN)):
            row = report.of_role(report.groups[0], role)  # type: ignore[arg-type]
            if row is not None:
                axes.axvline(
                    _number(row.metrics[report.metric].mean), color=tint, linewidth=1, linestyle=(0, (4, 3)), zorder=0
                )
    axes.barh(places, means, height=0.62, color=tints)
    whiskers = [(p, m, s) for p, m, s in zip(places, means, spreads, strict=True) if s > 0]
    for place, mean, spread in whiskers:
        axes.errorbar(mean, place, xerr=spread, color="#18181b", linewidth=1.2, capsize=3)
    for place, mean, spread in zip(places, means, spreads, strict=True):
        label = {"xytext": (7, 0), "textcoords": "offset points", "va": "center"}
        # A white edge keeps the figure readable over the dashed lines.
        axes.annotate(f"{mean:.4f}", (mean + spread, place), **label, bbox={"fc": "white", "ec": "none", "pad": 1.5})
    axes.set_yticks(places, [_label(report, row) for row in report.rows])
    axes.set_xlim(0, max([m + s for m, s in zip(means, spreads, strict=True)] + [1e-9]) * 1.12)
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.set_xlabel(report.metric)
    axes.grid(visible=False, axis="y")
    axes.spines["bottom"].set_visible(False)


def _curves(axes: Any, report: StudyReport) -> None:
    palette, ends = colours(report), []
    last = max(max(row.curve.epochs, default=0) for row in report.rows if row.curve)
    for row in report.rows:
        if row.curve is None or not row.curve.epochs:
            continue
        tint, values = palette[row.group, row.name], [_number(v) for v in row.curve.values]
        dash = "--" if row.role == "teacher" else "-"
        marker = "o" if len(values) == 1 else None
        axes.plot(row.curve.epochs, values, color=tint, linewidth=2, linestyle=dash, marker=marker)
        ends.append((float(row.curve.epochs[-1]), values[-1], _label(report, row), tint))
    axes.margins(x=0.02)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"validation {report.curve_metric or report.metric}")
    axes.grid(visible=False, axis="x")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _end_labels(axes, [(float(last), y, text, tint) for _, y, text, tint in ends], points=[(x, y) for x, y, *_ in ends])


def _size(axes: Any, report: StudyReport) -> None:
    palette, marks = colours(report), []
    axes.set_xscale("log")
    for row in report.rows:
        summary, tint = row.metrics[report.metric], palette[row.group, row.name]
        x, y, spread = float(max(row.parameters, 1)), _number(summary.mean), _number(summary.std)
        if spread > 0:
            axes.errorbar(x, y, yerr=spread, color=tint, linewidth=1.2, capsize=3)
        axes.plot([x], [y], marker="o", markersize=8, color=tint)
        marks.append((x, y, _label(report, row), tint))
    axes.margins(x=0.08, y=0.15)
    axes.set_xlabel("parameters")
    axes.set_ylabel(report.metric)
    axes.xaxis.set_major_formatter(lambda value, _: _short(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.16)
    for x in dict.fromkeys(mark[0] for mark in marks):
        column = [mark for mark in marks if mark[0] == x]
        _end_labels(axes, column, points=[mark[:2] for mark in column])


def _end_labels(
    axes: Any, labels: Sequence[tuple[float, float, str, str]], *, points: Sequence[tuple[float, float]]
) -> None:
    """Write names to the right of (x, y), pushed apart where they would overlap, with a thin leader to each point."""
    low, high = axes.get_ylim()
    placed = _spread([label[1] for label in labels], gap=(high - low) * 0.062, low=low, high=high)
    for (x, _, text, tint), at, point in zip(labels, placed, points, strict=True):
        moved = abs(at - point[1]) > (high - low) * 0.01 or x != point[0]
        axes.annotate(
            text,
            xy=point,
            xytext=(x, at),
            textcoords=_right_of(axes, 14.0),
            va="center",
            color=_darker(tint),
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": _LEADER, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 5}
            if moved
            else None,
        )


def _right_of(axes: Any, points: float) -> Any:
    """Return data coordinates moved right by ``points``."""
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(points / 72.0, 0.0, axes.figure.dpi_scale_trans)


def _spread(values: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Return values at least ``gap`` apart, in the same order, near where they were."""
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    placed = [values[i] for i in order]
    for at in range(1, len(placed)):
        placed[at] = max(placed[at], placed[at - 1] + gap)
    over = max(0.0, (placed[-1] - high) if placed else 0.0)
    shift = max(over, (sum(placed) - sum(values)) / max(len(values), 1))
    placed = [max(p - shift, low) if at == 0 else p - shift for at, p in enumerate(placed)]
    for at in range(1, len(placed)):
        placed[at] = max(placed[at], placed[at - 1] + gap)
    result = [0.0] * len(values)
    for place, index in enumerate(order):
        result[index] = placed[place]
    return result


def _label(report: StudyReport, row: StudyRow) -> str:
    name = row.name if len(row.name) <= 34 else row.name[:33] + "…"
    return f"{row.group} · {name}" if len(report.groups) > 1 and row.group else name


def _darker(tint: str) -> str:
    return "#71717a" if tint == PLAIN else tint


def _short(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0
