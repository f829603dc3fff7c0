"""The tables of ``fastkd bench``."""

from fastkd.bench import Roofline
from fastkd.cli.bench_tables import HEAD, cells, left_out, limits, result_table

ROW = {
    "case": "rank_topk", "point": "B=1", "pass": "forward", "contender": "torch", "variant": "chunk 32", "p20_ms": 1.0,
    "p50_ms": 2.0, "p80_ms": 3.0, "over_fastkd": 1.5, "peak_bytes": 2e6, "unit": "scores", "units_per_s": 2.5e9,
}  # fmt: skip


def test_limits_in_a_line():
    roof = Roofline(3e10, {"float32": 2e11}, 2, Roofline(1e10, {"float32": 1e11}, 1))
    assert limits(roof, "cpu") == (
        "limits of this machine (cpu): copy 30 GB/s, float32 product 200 GFLOP/s; one thread: copy 10 GB/s, "
        "product 100 GFLOP/s"
    )


def test_a_row_has_a_cell_for_each_column():
    assert len(cells(ROW)) == len(HEAD)
    assert cells(ROW)[3] == "torch, chunk 32"
    assert cells(ROW)[-1] == "-"
    assert cells(ROW | {"share": 0.42, "limit": "memory", "gb_per_s": 1.0, "gflop_per_s": 2.0})[-1] == "42 % memory"
    assert len(cells({"case": "x", "contender": "y", "skipped": "why"})) == len(HEAD)


def test_a_narrow_terminal_loses_columns_and_not_cells():
    def heads(width):
        return [str(column.header) for column in result_table([ROW], width).columns]

    assert heads(200) == list(HEAD)
    assert heads(80) == ["case", "shape", "pass", "who", "p20", "p50 ms", "p80", "x fastkd", "of limit"]
    assert heads(10) == ["case", "shape", "who", "p50 ms", "x fastkd", "of limit"]
    assert "too narrow for GFLOP/s" in str(result_table([ROW], 80).title)


def test_a_reason_is_said_once_for_all_its_cases():
    rows = [{"case": c, "contender": "faiss", "skipped": "not installed"} for c in ("a", "b", "a")]
    assert left_out([*rows, ROW]) == ["faiss skipped: not installed (a, b)"]
