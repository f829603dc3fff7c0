"""``fastkd methods``: the registered methods, what they read from a teacher, and what they cost at a given size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fastkd.cli.console import count, print_json, print_table, print_text, table
from fastkd.cli.options import Json
from fastkd.core.errors import ConfigError
from fastkd.core.figures import prefixed

if TYPE_CHECKING:
    from fastkd.distillation import Shape, Work


def methods(
    context: typer.Context,
    *,
    presets: Annotated[bool, typer.Option("--presets", help="List the presets instead.")] = False,
    users: Annotated[int, typer.Option(min=1, help="Users the cost is counted for.")] = 100_000,
    items: Annotated[int, typer.Option(min=1, help="Items.")] = 1_000_000,
    dim: Annotated[int, typer.Option(min=1, help="Width of the student's vectors.")] = 32,
    teacher_dim: Annotated[int, typer.Option(min=1, help="Width of the teacher's vectors.")] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Interactions in a step.")] = 2048,
    interactions: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Training interactions.", show_default="20 per user"),
    ] = None,
    json: Json = False,
) -> None:
    """List the distillation methods: paper, knowledge used, cost at a given size; or the presets.

    Costs are counted with each method's default options, not measured.

    Example:  fastkd methods --users 5219 --items 25181 --dim 20 --teacher-dim 400
    """
    if presets:
        _check_no_size(context)
        rows = preset_rows()
        if json:
            print_json(rows)
            return
        print_table(table("Presets", list(rows[0]) if rows else [], [list(row.values()) for row in rows]))
        return
    from fastkd.distillation import Shape

    entries = 20 * users if interactions is None else interactions
    at = Shape(users=users, items=items, dim=dim, teacher_dim=teacher_dim, batch=batch, interactions=entries)
    found = method_rows(at)
    if json:
        print_json(found)
        return
    _print(found, at)


def _check_no_size(context: typer.Context) -> None:
    """Refuse a size beside ``--presets``: it would be ignored."""
    sizes = [option for option in context.command.params if option.name not in ("presets", "json")]
    sources = {option.opts[0]: context.get_parameter_source(option.name or "") for option in sizes}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise ConfigError(f"--presets takes no {', '.join(given)}: a size is for the cost of methods; leave out either")


def method_rows(at: Shape) -> list[dict[str, Any]]:
    """Return one row per registered method; ``cost`` is None where a method does not state it."""
    from fastkd.distillation import METHODS

    rows: list[dict[str, Any]] = []
    for name in METHODS:
        kind = METHODS.get(name)
        cost = kind.cost(kind.config_type(), at)
        row: dict[str, Any] = {"name": name, "paper": kind.paper, "knowledge": kind.knowledge, "cost": None}
        if cost is not None:
            row["cost"] = {
                "prepare": _plain(cost.prepare),
                "refresh": _plain(cost.refresh),
                "refresh_every": cost.every,
                "step": _plain(cost.step),
                "memory_bytes": cost.memory,
            }
        rows.append(row)
    return rows


def preset_rows() -> list[dict[str, str]]:
    """Return one row per preset."""
    from fastkd.presets import PRESETS

    return [{"name": name, "study": PRESETS.get(name).description} for name in PRESETS]


def _plain(work: Work) -> dict[str, float]:
    return {"flops": work.flops, "bytes": work.bytes}


def _print(rows: list[dict[str, Any]], at: Shape) -> None:
    numbers = ("once", "refresh", "every", "step", "memory")
    cells = [[row["name"], row["paper"], row["knowledge"], *_cells(row["cost"])] for row in rows]
    made = table("Methods", ["method", "paper", "knowledge", *numbers], cells, right=numbers)
    made.columns[0].no_wrap = True
    made.columns[0].min_width = max(len(row["name"]) for row in rows)
    print_table(made)
    print_text(
        f"Cost beside the student alone, counted with default options for {count(at.users)} users x "
        f"{count(at.items)} items, {count(at.interactions)} interactions, student {at.dim} and teacher "
        f"{at.teacher_dim} wide, {count(at.batch)} rows a step: floating-point operations / bytes moved. once: before "
        "training; refresh: before every n-th epoch; memory: kept from step to step.",
        style="dim",
    )


def _cells(cost: dict[str, Any] | None) -> list[str]:
    if cost is None:
        return ["?"] * 5
    every = {0: "-", 1: "epoch"}.get(cost["refresh_every"], f"{cost['refresh_every']} epochs")
    works = [_work(cost[part]) for part in ("prepare", "refresh", "step")]
    return [works[0], works[1], every, works[2], f"{prefixed(cost['memory_bytes'])}B"]


def _work(work: dict[str, float]) -> str:
    if not work["bytes"]:
        return "-"
    moved = f"{prefixed(work['bytes'])}B"
    return f"{prefixed(work['flops'])} / {moved}" if work["flops"] else moved
