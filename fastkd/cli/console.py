"""Where text goes: results to stdout, progress and errors to stderr. The only module that prints."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fastkd.cli.exits import Interrupted, exit_code_of

out = Console(highlight=False, soft_wrap=True)
"""Results. ``file`` is looked up at each print, so a captured stdout is honoured."""

err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress, notes and errors."""


FILE_WIDTH = 200
"""Width of tables where stdout is no terminal, so that no cell is cut."""


def note(text: str) -> None:
    """Print one dim line to stderr; ``text`` is taken literally."""
    err.print(Text(text, style="dim"))


def success(text: str) -> None:
    """Print one line with a green mark to stderr."""
    err.print(Text.assemble(("✓ ", "green"), text))


def print_json(values: Any) -> None:
    """Print ``values`` as JSON to stdout, for machines: no colour, no wrapping, NaN refused."""
    out.file.write(json.dumps(values, indent=2, allow_nan=False) + "\n")


def print_yaml(text: str) -> None:
    """Print YAML to stdout as it is."""
    out.file.write(text if text.endswith("\n") else text + "\n")


def print_error(error: BaseException) -> int:
    """Print ``error`` as one red line on stderr and return its exit code.

    ``FASTKD_TRACEBACK=1`` adds the traceback. An error that fastkd did not raise on purpose says its type.
    """
    code = exit_code_of(error)
    if os.environ.get("FASTKD_TRACEBACK") == "1":
        err.file.write("".join(traceback.format_exception(error)))
    if isinstance(error, KeyboardInterrupt):
        err.print(Text("interrupted", style="yellow"))
    elif isinstance(error, Interrupted):
        err.print(Text(one_line(str(error)), style="yellow"))
    else:
        err.print(Text.assemble(("error: ", "bold red"), (one_line(describe(error)), "red")))
    return code


def describe(error: BaseException) -> str:
    """Return what ``error`` says, with its type where the type is news and a hint where there is none."""
    from fastkd.core.errors import FastKDError

    if isinstance(error, FastKDError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{text} (FASTKD_TRACEBACK=1 shows where)"


def one_line(text: str) -> str:
    """Return ``text`` with line breaks and runs of blanks as single blanks."""
    return " ".join(text.split())


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> Table:
    """Return a plain table; cells are taken literally unless they are rich objects, ``right`` names aligned columns."""
    made = Table(
        title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, header_style="bold dim"
    )
    for column in columns:
        made.add_column(escape(column), justify="right" if column in right else "left", no_wrap=column in right)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def table_width() -> int:
    """Return how wide a table may be: as the terminal (or ``COLUMNS``), or wide enough for a file."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    return out.width if out.is_terminal else FILE_WIDTH


def print_table(made: Table) -> None:
    """Print a table to stdout, :func:`table_width` wide."""
    whole = Console(file=out.file, width=table_width(), highlight=False, force_terminal=out.is_terminal)
    whole.print(made)


def print_text(text: str, *, style: str = "") -> None:
    """Print paragraphs to stdout, wrapped at words on a terminal and not at all elsewhere; taken literally."""
    out.print(Text(text, style=style), soft_wrap=not out.is_terminal)


def key_values(title: str, values: Mapping[str, Any]) -> Table:
    """Return a two-column table of names and values."""
    made = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, show_header=False)
    made.add_column(style="dim")
    made.add_column()
    for name, value in values.items():
        made.add_row(Text(name), value if isinstance(value, Text) else Text(str(value)))
    return made


def count(number: int | float) -> str:
    """Return a number as people read it: 12 345, 1.2 M."""
    if number < 100_000:
        return f"{int(number):,}".replace(",", " ")
    for limit, unit in ((1e6, "k"), (1e9, "M"), (1e12, "G")):
        if number < limit:
            return f"{number / (limit / 1e3):.3g} {unit}"
    return f"{number:.3g}"


def duration(seconds: float) -> str:
    """Return seconds as people read them: 0.8 s, 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
