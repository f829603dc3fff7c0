"""Options that several commands share, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045  (typer reads the annotation)
    typer.Option("--set", metavar="KEY=VALUE", help="Override one configuration value; repeat for more."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the store if there is one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration as YAML and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a machine instead of a table.")]
StudyFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(metavar="[STUDY.yaml]", help="A study file; or use --preset.", show_default=False),
]
Preset = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="NAME", help="A ready study; `fastkd methods --presets` lists them.", show_default=False),
]
Folder = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(metavar="DIR", help="Study folder, made or continued.", show_default="runs/NAME"),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]
