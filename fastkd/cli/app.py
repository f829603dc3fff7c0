"""The command group: every command's failure ends here as one line and one exit code."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

from fastkd.cli.console import print_error


class GuardedGroup(TyperGroup):
    """A group that turns exceptions into a message and an exit code; usage errors stay with typer (code 2)."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; see :mod:`fastkd.cli.exits` for the codes."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output (head, less) is gone: nothing to say, and nobody to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            raise typer.Exit(1) from None
        except (Exception, KeyboardInterrupt) as error:
            if _is_typers_own(error):
                raise
            raise typer.Exit(print_error(error)) from error


def _is_typers_own(error: BaseException) -> bool:
    return isinstance(error, (typer.Exit, typer.Abort)) or hasattr(error, "exit_code")
