"""The page of a results folder: one HTML file that opens offline, without scripts or outside resources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkd.bench.plots import Guide, Series, colour, draw
from fastkd.bench.record import PAGE, latest, read
from fastkd.core.figures import digits, prefixed
from fastkd.core.files import write_text

Row = Mapping[str, Any]
SMALL = (440, 300)

LEAST = 1_000_000
"""Bytes under which the memory of a process says nothing: pages come and go."""


def write_page(folder: Path) -> Path:
    """Write the page of a folder's newest rows; return its path."""
    path = folder / PAGE
    write_text(path, render(read(folder)))
    return path


def render(rows: Sequence[dict[str, Any]]) -> str:
    """Return the page: machine, rooflines, scaling, memory, the table, who was left out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fastkd.bench"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    newest = latest(rows)
    timed = [row for row in newest if "p50_ms" in row]
    page = environment.get_template("bench.html.j2").render(
        machines=machines(timed),
        table=[_cells(row) for row in timed],
        rooflines=[{"title": title, "svg": svg} for title, svg in rooflines(timed)],
        scaling=[{"title": title, "svg": svg} for title, svg in scaling(timed, "p50_ms", "milliseconds")],
        memory=[
            {"title": title, "svg": svg}
            for title, svg in scaling([_seen(row) for row in timed], "peak_bytes", "bytes beyond the inputs", ("N",))
        ],
        contenders=[{"name": name, "colour": colour(name)} for name in dict.fromkeys(r["contender"] for r in timed)],
        skipped=_skipped(newest),
    )
    return page + "\n"


def machines(rows: Iterable[Row]) -> list[dict[str, str]]:
    """Return what was measured where: one entry per device and thread count, with all commits."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    commits: dict[tuple[Any, ...], dict[str, None]] = {}
    for row in rows:
        key = row["device"], row["threads"]
        commits.setdefault(key, {})[row["commit"]] = None
        versions = ", ".join(f"{name} {version}" for name, version in row.get("versions", {}).items())
        found[key] = {
            "device": row["device"],
            "threads": "" if row["device_type"] == "cuda" else f"{row['threads']} thread(s) of {row['cores']} cores",
            "commit": ", ".join(commits[key]),
            "date": row["date"][:10],
            "limits": f"copy {row['copy_bytes_per_s'] / 1e9:.3g} GB/s, "
            f"{row.get('dtype', 'float32')} product {row['matrix_flop_per_s'] / 1e9:.4g} GFLOP/s",
            "versions": f"Python {row['python']}, {versions}",
        }
    return list(found.values())


def rooflines(rows: Iterable[Row]) -> list[tuple[str, str]]:
    """Return a roofline per device, thread count and dtype: operations a second against operations a byte."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.get("flops") and row.get("bytes"):
            groups.setdefault((row["device"], row["threads"], row["dtype"]), []).append(row)
    found = []
    for (device, threads, dtype), group in groups.items():
        newest = group[-1]
        bandwidth, matrix = newest["copy_bytes_per_s"], newest["matrix_flop_per_s"]
        where = device if newest["device_type"] == "cuda" else f"{device}, {threads} thread(s)"
        found.append((f"{where}, {dtype}", _roofline(group, bandwidth, matrix)))
    return found


def _roofline(rows: Sequence[Row], bandwidth: float, matrix: float) -> str:
    ridge = matrix / bandwidth
    series, named = [], set()
    for name in dict.fromkeys(row["contender"] for row in rows):
        own = sorted((r for r in rows if r["contender"] == name), key=lambda r: -r["share"])
        labels = []
        for row in own:
            labels.append(row["case"] if name == "fastkd" and row["case"] not in named else "")
            named.add(row["case"] if name == "fastkd" else "")
        points = [(r["flops"] / r["bytes"], r["gflop_per_s"]) for r in own]
        tips = [f"{r['case']} {r['point']} {r['pass']}: {name}, {100 * r['share']:.0f} % of the limit" for r in own]
        series.append(Series(name, points, tips, labels, line=False, hollow=name != "fastkd"))
    across = [p[0] for s in series for p in s.points]
    low, high = min([*across, ridge]) / 1.5, max([*across, ridge]) * 1.5
    guides = [
        Guide([(low, low * bandwidth / 1e9), (ridge, matrix / 1e9)], f"memory {bandwidth / 1e9:.3g} GB/s"),
        Guide([(ridge, matrix / 1e9), (high, matrix / 1e9)], f"product {matrix / 1e9:.4g} GFLOP/s"),
    ]
    return draw(
        series[::-1], guides=guides, x="operations per byte that must move", y="GFLOP/s", size=(860, 480)
    )  # ours last: on top


def scaling(
    rows: Sequence[Row], value: str, title: str, letters: Sequence[str] = ("N", "B", "K", "D", "C", "M")
) -> list[tuple[str, str]]:
    """Return a plot for each case and letter of which at least three sizes were timed, all else the same."""
    groups: dict[tuple[Any, ...], dict[str, list[Row]]] = {}
    for row in rows:
        if not row.get(value):
            continue
        for letter in letters:
            if letter in row["sizes"]:
                rest = tuple((k, v) for k, v in row["sizes"].items() if k != letter)
                key = row["device"], row["threads"], row["case"], row["pass"], row["dtype"], row["table"], letter, rest
                groups.setdefault(key, {}).setdefault(row["contender"], []).append(row)
    found = []
    for (_, _, case, which, _, _, letter, rest), contenders in groups.items():
        if max(len(own) for own in contenders.values()) < 3:
            continue
        series = [line for name, own in contenders.items() for line in _lines(name, own, letter, value)]
        fixed = " ".join(f"{k}={v:,}" for k, v in rest)
        found.append((f"{case} {which} in {letter}, {fixed}", draw(series[::-1], x=letter, y=title, size=SMALL)))
    return found


def _lines(name: str, rows: Sequence[Row], letter: str, value: str) -> list[Series]:
    """Return a contender's line; one for each of its variants where all of them were timed at one size."""
    sizes = [row["sizes"][letter] for row in rows]
    if len(set(sizes)) == len(sizes):
        return [_line(name, name, rows, letter, value)]
    variants = dict.fromkeys(row.get("variant", "") for row in rows)
    return [
        _line(name, f"{name}, {variant}", [r for r in rows if r.get("variant", "") == variant], letter, value)
        for variant in variants
    ]


def _line(name: str, label: str, rows: Sequence[Row], letter: str, value: str) -> Series:
    rows = sorted(rows, key=lambda row: row["sizes"][letter])
    points = [(row["sizes"][letter], row[value]) for row in rows]
    tips = [f"{label} {letter}={x:,}: {y:,.4g}" for x, y in points]
    return Series(name, points, tips, [*[""] * (len(points) - 1), label])


def _seen(row: Row) -> Row:
    """Return a row whose memory is no less than a process can tell from noise."""
    peak = row.get("peak_bytes")
    return row if peak is None else {**row, "peak_bytes": max(peak, LEAST)}


def _cells(row: Row) -> dict[str, Any]:
    """Return a row of the page's table, as text."""
    share = row.get("share")
    return {
        "case": row["case"],
        "point": row["point"],
        "pass": row["pass"],
        "who": row["contender"] + (f", {row['variant']}" if row.get("variant") else ""),
        "colour": colour(row["contender"]),
        "ours": row["contender"] == "fastkd",
        "ms": digits(row["p50_ms"], 4),
        "range": "once" if row["rounds"] == 1 else f"{digits(row['p20_ms'], 4)} - {digits(row['p80_ms'], 4)}",
        "first": digits(row["first_ms"], 4),
        "over": f"{row['over_fastkd']:.2f}",
        "peak": "-" if row.get("peak_bytes") is None else digits(row["peak_bytes"] / 1e6, 3),
        "rate": f"{prefixed(row['units_per_s'])}{row['unit']}/s",
        "moved": "-" if row.get("gb_per_s") is None else digits(row["gb_per_s"], 3),
        "done": "-" if row.get("gflop_per_s") is None else digits(row["gflop_per_s"], 3),
        "share": "-" if share is None else f"{100 * share:.0f} % {row['limit']}",
        "threads": row["threads"],
        "gate": row["gate"],
        "note": row.get("note") or "",
    }


def _skipped(rows: Iterable[Row]) -> list[dict[str, str]]:
    """Return who was left out and why, once for each reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "skipped" in row:
            found.setdefault((row["contender"], row["skipped"]), []).append(row["case"])
    return [{"who": who, "why": why, "cases": ", ".join(dict.fromkeys(cases))} for (who, why), cases in found.items()]
