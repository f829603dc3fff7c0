"""The command group: every command's failure ends here as one line and one exit code."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from fastkd.cli.console import note, print_error
from fastkd.core.errors import FastKDWarning


class GuardedGroup(TyperGroup):
    """A group that turns exceptions into a message and an exit code; usage errors stay with typer (code 2)."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see :mod:`fastkd.cli.exits` for the codes."""
        try:
            with _warnings_as_notes():
                return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output (head, less) is gone: nothing to say, and nobody to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(1) from None
        except (Exception, KeyboardInterrupt) as error:
            if _is_typers_own(error):
                raise
            raise typer.Exit(print_error(error)) from error


@contextlib.contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """Say what fastkd warns of in a line, each time; warnings of others are shown as they were."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", FastKDWarning)
        show_others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, FastKDWarning):
                note(f"note: {message}")
            else:
                show_others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _is_typers_own(error: BaseException) -> bool:
    return isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "exit_code")
