"""The study's tables on a terminal: the report's own tables, in rich."""

from __future__ import annotations

from typing import Literal

from rich.table import Table
from rich.text import Text

from fastkd.cli.console import out, print_table, print_text
from fastkd.cli.results import StudyResults
from fastkd.evaluation import ReportTable, report_tables


def print_results(results: StudyResults) -> None:
    """Print the quality, cost and significance tables to stdout."""
    for position, table in enumerate(report_tables(results.report)):
        if position:
            out.print()
        print_table(rich_table(table))
        if table.note:
            print_text(table.note, style="dim")


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
