"""``fastkd demo``: a whole study on planted data in under a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastkd.cli.console import print_text, print_yaml
from fastkd.cli.options import DryRun, Json, Overrides
from fastkd.core.config import to_yaml


def demo(
    *,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the study goes.")] = Path("fastkd-demo"),
    overrides: Overrides = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train a teacher, a plain student and three distilled students on planted data; explain what happened.

    Example:  fastkd demo --folder fastkd-demo
    """
    from fastkd.cli.commands.distill import show
    from fastkd.cli.config import study_config
    from fastkd.cli.study import run_study

    config = study_config("demo", None, overrides or ())
    if dry_run:
        print_yaml(to_yaml(config))
        return
    results = run_study(config, folder)
    if not json:
        print_text(f"{results.report.explanation}\n")
    show(results, folder, json=json)
