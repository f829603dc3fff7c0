"""The console script ``fastkd``."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from fastkd.cli.app import GuardedGroup
from fastkd.cli.commands import bench, data, demo, distill, doctor, evaluate, export, methods, recommend, report
from fastkd.cli.console import out
from fastkd.cli.exits import EXIT_CODES

_CODES = "\n\n".join(f"{code}  {text}" for code, text in EXIT_CODES.items())

app = typer.Typer(
    name="fastkd",
    cls=GuardedGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help=(
        "Knowledge distillation for top-K recommenders: a small student learns to rank as well as a large teacher.\n\n"
        "Example:  fastkd demo"
    ),
    epilog=(
        f"[bold]Exit codes[/bold]\n\n{_CODES}\n\n[bold]Environment[/bold]\n\n"
        "FASTKD_DATA  where relative data paths are looked up (default ../shared/data)\n\n"
        "FASTKD_TRACEBACK=1  shows where an error came from\n\n"
        "GOMP_SPINCOUNT, OMP_WAIT_POLICY  how torch's threads wait; without either they spin briefly (10000)"
    ),
)
app.command()(demo.demo)
app.add_typer(data.app, name="data")
app.command()(distill.train)
app.command()(distill.distill)
app.command()(evaluate.evaluate)
app.command()(recommend.recommend)
app.command()(export.export)
app.command()(report.report)
app.command()(methods.methods)
app.command()(bench.bench)
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        import fastkd

        out.print(f"fastkd {fastkd.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run the program; exit codes as in :mod:`fastkd.cli.exits`."""
    _spin_briefly()
    app()


def _spin_briefly() -> None:
    """Have torch's idle threads spin for a fraction of a millisecond, not for several, before they sleep.

    The threads of one operator wait for each other. Where other programs take the processors, a spinning thread keeps
    one from the thread that it waits for, until the system takes it away: a training step became fifty times as long.
    OpenMP reads this once, when torch loads; whoever has said how to wait is obeyed.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = "10000"
