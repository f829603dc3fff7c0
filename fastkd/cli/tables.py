"""The study's tables on a terminal: the report's own tables, in rich."""

from __future__ import annotations

import dataclasses
from typing import Literal

from rich.table import Table
from rich.text import Text

from fastkd.cli.console import out, print_table, print_text, table_width
from fastkd.cli.results import StudyResults
from fastkd.cli.shares import share_notes
from fastkd.evaluation import ReportTable, report_tables


def print_results(results: StudyResults) -> None:
    """Print the quality, cost and significance tables to stdout."""
    for position, table in enumerate(report_tables(results.report)):
        if position:
            out.print()
        shown = narrowed(table, table_width())
        print_table(rich_table(shown))
        if shown.note:
            print_text(shown.note, style="dim")
    for note in share_notes(results.values["students"]):
        print_text(note, style="dim")


def narrowed(table: ReportTable, width: int) -> ReportTable:
    """Return ``table`` without the last metric columns (``ndcg@20``) that do not fit ``width``; the note says so."""
    sizes = [max(len(name), *(len(row[c]) for row in table.rows), 0) + 1 for c, name in enumerate(table.columns)]
    metrics = [c for c, name in enumerate(table.columns) if "@" in name]
    dropped: set[int] = set()
    while len(metrics) > 1 and sum(size for c, size in enumerate(sizes) if c not in dropped) > width:
        dropped.add(metrics.pop())
    if not dropped:
        return table
    kept = [c for c in range(len(table.columns)) if c not in dropped]
    hidden = ", ".join(table.columns[c] for c in sorted(dropped))
    return dataclasses.replace(
        table,
        columns=tuple(table.columns[c] for c in kept),
        rows=tuple(tuple(row[c] for c in kept) for row in table.rows),
        numeric=tuple(table.numeric[c] for c in kept),
        strong=frozenset((r, kept.index(c)) for r, c in table.strong if c in kept),
        note=f"{table.note} Not shown for want of width: {hidden}; they are in the report.".strip(),
    )


def rich_table(table: ReportTable) -> Table:
    """Return a report table as a rich one; what the page sets in bold is bold green here."""
    made = Table(title=Text(table.title, style="bold"), title_justify="left", box=None, pad_edge=False)
    made.header_style, made.padding = "bold dim", (0, 1, 0, 0)
    for c, (name, numeric) in enumerate(zip(table.columns, table.numeric, strict=True)):
        # Cells keep their width, the headings of numbers may wrap: so tables stay readable in 90 columns.
        width = max((len(row[c]) for row in table.rows), default=0)
        justify: Literal["right", "left"] = "right" if numeric else "left"
        made.add_column(Text(name), justify=justify, min_width=width, no_wrap=not numeric)
    for r, row in enumerate(table.rows):
        made.add_row(*(Text(cell, style="bold green" if (r, c) in table.strong else "") for c, cell in enumerate(row)))
    return made
