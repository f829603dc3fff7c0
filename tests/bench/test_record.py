"""Results: appended, never rewritten, with all that tells where a figure comes from."""

import csv
import json

from fastkd.bench.record import COLUMNS, append, completed, latest, read
from fastkd.bench.roofline import Roofline
from fastkd.bench.where import surroundings

ROOF = Roofline(2e10, {"float32": 1e11}, 2, Roofline(1e10, {"float32": 5e10}, 1))


def row(**more):
    found = {
        "case": "rank_topk", "point": "B=1 N=10", "sizes": {"B": 1, "N": 10}, "dtype": "float32", "table": "random",
        "pass": "forward", "contender": "fastkd", "variant": "", "p20_ms": 1.0, "p50_ms": 1.23456789, "p80_ms": 2.0,
        "rounds": 5, "first_ms": 9.0, "over_fastkd": 1.0, "peak_bytes": 1000, "threads": 2, "gate": "tests",
        "unit": "scores", "units_per_s": 1e9,
    } | more  # fmt: skip
    return completed(found, surroundings("cpu"), ROOF)


def test_rows_are_appended_to_both_files(tmp_path):
    append(tmp_path / "a", [row()])
    append(tmp_path / "a", [row(contender="torch"), row(p50_ms=3.0)])
    rows = read(tmp_path / "a")
    assert [r["contender"] for r in rows] == ["fastkd", "torch", "fastkd"]
    assert rows[0]["p50_ms"] == 1.2346
    with (tmp_path / "a" / "bench.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [r["p50_ms"] for r in table] == ["1.2346", "1.2346", "3.0"]
    assert table[0]["torch"] == rows[0]["versions"]["torch"]


def test_a_row_carries_commit_device_versions_and_shape():
    found = row()
    assert {"commit", "device", "device_type", "versions", "sizes", "date", "gate", "python"} <= set(found)
    assert set(COLUMNS) - set(found) == {
        "gb_per_s", "gflop_per_s", "floor_ms", "limit", "share", "note", "skipped", "torch", "triton", "numba",
    }  # fmt: skip
    json.dumps(found, allow_nan=False)


def test_one_thread_is_held_against_the_limits_of_one():
    assert row()["copy_bytes_per_s"] == 2e10
    assert row(threads=1)["copy_bytes_per_s"] == 1e10


def test_the_newest_of_each_is_kept_and_a_figure_replaces_a_reason():
    reason = {k: v for k, v in row(contender="faiss").items() if not k.endswith("_ms")} | {"skipped": "not installed"}
    alone = {**reason, "contender": "cuvs"}
    found = latest([row(), reason, alone, row(p50_ms=7.0), row(contender="faiss")])
    assert [(r["contender"], r.get("p50_ms")) for r in found if "p50_ms" in r] == [
        ("fastkd", 7.0),
        ("faiss", 1.23456789),
    ]
    assert [r["contender"] for r in found if "skipped" in r] == ["cuvs"]


def test_all_variants_of_the_newest_run_are_kept_and_those_of_an_older_one_are_not():
    old = [row(contender="torch", variant="chunk 32") | {"date": "2026-01-01T00:00:00+00:00"}]
    new = [row(contender="torch", variant=name) | {"date": "2026-01-02T00:00:00+00:00"} for name in ("sparse", "dense")]
    assert [r["variant"] for r in latest(old + new)] == ["sparse", "dense"]
    assert [r["variant"] for r in latest(old + new[:1])] == ["sparse"]


def test_a_folder_without_results_has_none(tmp_path):
    assert read(tmp_path) == []
