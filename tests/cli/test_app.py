import warnings

import typer
from typer.testing import CliRunner

from fastkd.cli.app import GuardedGroup
from fastkd.core.errors import CheckpointError, FastKDWarning

app = typer.Typer(cls=GuardedGroup)
inner = typer.Typer(cls=GuardedGroup)
app.add_typer(inner, name="inner")


@app.command()
def disk():
    raise CheckpointError("disk full in /runs")


@app.command()
def stop():
    raise KeyboardInterrupt


@app.command()
def defect():
    raise IndexError("out of range")


@app.command()
def leave(code: int = 7):
    raise typer.Exit(code)


@inner.command()
def deep():
    raise CheckpointError("disk full below")


@inner.command()
def other():
    pass


@app.command()
def warn():
    for message in ("left out", "left out", FutureWarning("of another")):
        warnings.warn(message, FutureWarning if message != "left out" else FastKDWarning, stacklevel=1)


def run(*args):
    return CliRunner().invoke(app, list(args))


def test_our_errors_become_their_code_and_one_line():
    result = run("disk")
    assert result.exit_code == 4
    assert result.stderr == "error: disk full in /runs\n"
    assert result.stdout == ""


def test_a_nested_group_reports_once():
    result = run("inner", "deep")
    assert result.exit_code == 4
    assert result.stderr.count("disk full below") == 1


def test_an_interrupt_is_130():
    assert run("stop").exit_code == 130


def test_a_defect_is_1_without_a_traceback():
    result = run("defect")
    assert result.exit_code == 1
    assert "IndexError: out of range" in result.stderr
    assert "Traceback" not in result.stderr


def test_our_warnings_are_notes_and_those_of_others_stay_as_they_are():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before, others = warnings.showwarning, []
        warnings.showwarning = lambda message, *rest: others.append(str(message))
        result = run("warn")
        warnings.showwarning = before
    assert result.exit_code == 0, result.stderr
    assert result.stderr == "note: left out\nnote: left out\n"
    assert others == ["of another"]


def test_typers_own_exits_pass():
    assert run("leave").exit_code == 7
    assert run("leave", "--code", "x").exit_code == 2
    assert run("nonsense").exit_code == 2
