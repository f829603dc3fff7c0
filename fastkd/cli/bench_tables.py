"""The tables of ``fastkd bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fastkd.cli.console import table
from fastkd.core.figures import digits, prefixed

if TYPE_CHECKING:
    from fastkd.bench import Roofline

Row = Mapping[str, Any]

HEAD = (
    "case", "shape", "pass", "who", "p20", "p50 ms", "p80", "x fastkd", "peak MB", "rate", "GB/s", "GFLOP/s",
    "of limit",
)  # fmt: skip
SPARED = ("GFLOP/s", "GB/s", "rate", "peak MB", "p80", "p20", "pass")
"""Columns that make way, in this order, where the terminal is too narrow for all."""


def limits(roof: Roofline, device: str) -> str:
    """Return this machine's limits in a line."""
    rates = ", ".join(f"{name} product {prefixed(value)}FLOP/s" for name, value in roof.matrix.items())
    line = f"limits of this machine ({device}): copy {prefixed(roof.bandwidth)}B/s, {rates}"
    if roof.one is None:
        return line
    one = roof.one
    return f"{line}; one thread: copy {prefixed(one.bandwidth)}B/s, product {prefixed(one.matrix['float32'])}FLOP/s"


def cells(row: Row) -> list[Any]:
    """Return a row's cells under :data:`HEAD`."""
    who = row["contender"] + (f", {row['variant']}" if row.get("variant") else "")
    start = [row["case"], row.get("point", ""), row.get("pass", "")]
    if "p50_ms" not in row:
        return [*start, who, f"skipped: {row['skipped']}", *[""] * (len(HEAD) - 5)]
    share = "-" if row.get("share") is None else f"{100 * row['share']:.0f} % {row['limit']}"
    times = [digits(row[f"{name}_ms"], 4) for name in ("p20", "p50", "p80")]
    peak = "-" if row.get("peak_bytes") is None else digits(row["peak_bytes"] / 1e6, 3)
    moved = ["-" if row.get(key) is None else digits(row[key], 3) for key in ("gb_per_s", "gflop_per_s")]
    made = f"{prefixed(row['units_per_s'])}{row['unit']}/s"
    return [*start, who, *times, f"{row['over_fastkd']:.2f}", peak, made, *moved, share]


def result_table(rows: Sequence[Row], width: int) -> Table:
    """Return the figures of a run, ``width`` characters wide if they can be; what was skipped has been said before."""
    body = [cells(row) for row in rows if "p50_ms" in row]
    sizes = {name: 1 + max(len(name), *(len(str(row[c])) for row in body), 0) for c, name in enumerate(HEAD)}
    hidden = []
    for name in SPARED:
        if sum(sizes.values()) <= width:
            break
        hidden.append(name)
        del sizes[name]
    shown = [c for c, name in enumerate(HEAD) if name in sizes]
    title = "Benchmark" + (f" (too narrow for {', '.join(hidden)})" if hidden else "")
    kept = tuple(HEAD[c] for c in shown)
    return table(title, kept, [[row[c] for c in shown] for row in body], right=[n for n in kept if n in HEAD[4:]])


def left_out(rows: Sequence[Row]) -> list[str]:
    """Return a line for each contender and reason it was left out for, with the cases."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "skipped" in row:
            found.setdefault((row["contender"], row["skipped"]), []).append(row["case"])
    return [f"{who} skipped: {why} ({', '.join(dict.fromkeys(cases))})" for (who, why), cases in found.items()]


def progress(row: Row) -> str:
    """Return one line about a row that has just come."""
    who = row["contender"] + (f", {row['variant']}" if row.get("variant") else "")
    where = " ".join(str(row[key]) for key in ("case", "point", "pass") if row.get(key))
    if "p50_ms" not in row:
        return f"{where}  {who} skipped: {row['skipped']}"
    return f"{where}  {who} {digits(row['p50_ms'], 4)} ms, {row['over_fastkd']:.2f} x fastkd"


def case_table(rows: Sequence[Row]) -> Table:
    """Return the registry as a table."""
    body = [[r["case"], r["summary"], ", ".join(r["passes"]), "\n".join(r["points"])] for r in rows]
    return table("Cases", ("case", "what", "passes", "points"), body)
