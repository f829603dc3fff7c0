"""``fastkd report``: the table and the page again, from the finished runs of a study folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastkd.cli.console import note, print_json
from fastkd.cli.options import Json


def report(
    folder: Annotated[Path, typer.Argument(metavar="STUDY_FOLDER", help="A study folder.", show_default=False)],
    *,
    json: Json = False,
) -> None:
    """Write results.json and report.html of a study again and show the table.

    Example:  fastkd report runs/citeulike
    """
    from fastkd.cli.config import stored_study
    from fastkd.cli.results import write_results
    from fastkd.cli.tables import print_results

    results = write_results(stored_study(folder), folder)
    if json:
        print_json(results.values)
        return
    print_results(results)
    note(f"report: {folder / 'report.html'}")
