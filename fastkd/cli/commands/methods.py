"""``fastkd methods``: the registered methods, their papers and what they read from a teacher."""

from __future__ import annotations

from typing import Annotated

import typer

from fastkd.cli.console import print_json, print_table, table
from fastkd.cli.options import Json


def methods(
    *,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets instead.")] = False,
    json: Json = False,
) -> None:
    """List the distillation methods with paper and knowledge used, or the presets.

    Example:  fastkd methods --presets
    """
    rows = preset_rows() if presets else method_rows()
    if json:
        print_json(rows)
        return
    columns = list(rows[0]) if rows else []
    print_table(table("Presets" if presets else "Methods", columns, [list(row.values()) for row in rows]))


def method_rows() -> list[dict[str, str]]:
    """Return one row per registered method."""
    from fastkd.distillation import METHODS

    rows = []
    for name in METHODS:
        kind = METHODS.get(name)
        knowledge = getattr(kind, "knowledge", None) or _first_sentence(kind.__doc__)
        rows.append({"name": name, "paper": kind.paper, "knowledge": str(knowledge)})
    return rows


def preset_rows() -> list[dict[str, str]]:
    """Return one row per preset."""
    from fastkd.presets import PRESETS

    return [{"name": name, "study": PRESETS.get(name).description} for name in PRESETS]


def _first_sentence(text: str | None) -> str:
    paragraph = (text or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split(". ")[0].removesuffix(".").split())
