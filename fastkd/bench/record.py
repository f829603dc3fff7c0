"""What a run leaves behind: rows appended to ``bench.jsonl`` and ``bench.csv``, and the page made of all of them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkd.bench.roofline import Roofline

Row = dict[str, Any]

JSON_LINES, CSV, PAGE = "bench.jsonl", "bench.csv", "bench.html"

COLUMNS = (
    "date", "commit", "device", "device_type", "threads", "case", "point", "dtype", "table", "pass", "contender",
    "variant", "p20_ms", "p50_ms", "p80_ms", "rounds", "first_ms", "over_fastkd", "peak_bytes", "unit",
    "units_per_s", "gb_per_s", "gflop_per_s", "floor_ms", "limit", "share", "copy_bytes_per_s", "matrix_flop_per_s",
    "gate", "note",
    "skipped", "python", "torch", "triton", "numba",
)  # fmt: skip
"""Columns of the CSV; a new one goes to the end, so that old files stay readable."""


def completed(row: Row, about: Row, roof: Roofline) -> Row:
    """Return a row with where it was measured and this machine's limits."""
    limits = roof.one if roof.one is not None and row.get("threads") == 1 else roof
    rate = limits.matrix.get(row.get("dtype", ""), limits.matrix["float32"])
    return {**about, **row, "copy_bytes_per_s": limits.bandwidth, "matrix_flop_per_s": rate}


def rounded(value: Any) -> Any:
    """Return floats with five digits: more are noise, and make files long."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {key: rounded(part) for key, part in value.items()}
    return value


def append(folder: Path, rows: Sequence[Row]) -> None:
    """Append rows to both files of a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / JSON_LINES).open("a", encoding="utf-8") as lines:
        lines.writelines(json.dumps(rounded(row)) + "\n" for row in rows)
    fresh = not (folder / CSV).exists()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator=os.linesep)
    if fresh:
        writer.writeheader()
    for row in rows:
        versions = row.get("versions", {})
        writer.writerow({**{name: versions.get(name) for name in ("torch", "triton", "numba")}, **rounded(row)})
    with (folder / CSV).open("a", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())


def read(folder: Path) -> list[Row]:
    """Return all rows of a folder, oldest first; none if it holds none."""
    path = folder / JSON_LINES
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def latest(rows: Iterable[Row]) -> list[Row]:
    """Return the newest row of each (device, threads, case, point, pass, contender), in order of first appearance.

    Several variants of a contender are kept if the newest run of it has them: whole jobs time them all. A skipped row
    is dropped where the same contender has figures.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    newest: dict[tuple[Any, ...], str] = {}
    for row in rows:
        key = tuple(row.get(k) for k in ("device", "threads", "case", "point", "pass", "contender"))
        kept[*key, row.get("variant", "")] = row
        newest[key] = row["date"]
    kept = {key: row for key, row in kept.items() if row["date"] == newest[key[:-1]]}
    timed = {(r.get("device"), r["case"], r.get("point"), r["contender"]) for r in kept.values() if "p50_ms" in r}
    return [
        row
        for row in kept.values()
        if "p50_ms" in row or (row.get("device"), row["case"], row.get("point"), row["contender"]) not in timed
    ]
