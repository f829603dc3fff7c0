"""``fastkd bench``: tables, files, JSON, exit codes."""

import json

import pytest
from typer.testing import CliRunner

from fastkd.bench import clock, gate, roofline
from fastkd.cli.main import app


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    monkeypatch.setattr(gate, "verdict", lambda case, quick=False: gate.Verdict(True, "tests"))
    monkeypatch.setattr(gate, "judge_together", lambda cases, quick: None)
    monkeypatch.setattr("fastkd.cli.bench_runs.judge_together", lambda cases, quick: None)
    monkeypatch.setattr(clock, "SETTLE", 0.0)
    monkeypatch.setattr(clock, "FEWEST", 2)
    monkeypatch.setitem(roofline.COPY, "cpu", 100_000)
    monkeypatch.setitem(roofline.SIDE, "cpu", 64)
    monkeypatch.chdir(tmp_path)


def run(*words):
    return CliRunner().invoke(app, ["bench", *words], env={"COLUMNS": "250"})


SMALL = ("rank_topk", "--shape", "B=4,N=200,D=8,K=3", "--seconds", "0.01", "--device", "cpu")


def test_a_table_two_files_and_a_page(tmp_path):
    found = run(*SMALL, "--shape", "B=4,N=400,D=8,K=3", "--against", "torch,faiss,cuvs")
    assert found.exit_code == 0, found.output
    assert "B=4 N=200 D=8 K=3" in found.stdout
    assert "torch, chunk 32" in found.stdout
    assert "cuvs skipped: runs on cuda only (rank_topk)" in found.stderr
    assert "limits of this machine (cpu): copy" in found.stderr
    out = tmp_path / "fastkd-bench"
    assert {path.name for path in out.iterdir()} == {"bench.jsonl", "bench.csv", "bench.html"}
    before = len((out / "bench.jsonl").read_text().splitlines())
    assert run(*SMALL, "--against", "torch").exit_code == 0
    assert len((out / "bench.jsonl").read_text().splitlines()) == before + 2


def test_json_is_all_that_is_printed(tmp_path):
    found = run(*SMALL, "--against", "numpy", "--json", "--no-save")
    rows = json.loads(found.stdout)
    assert [row["contender"] for row in rows] == ["fastkd", "numpy"]
    assert rows[0]["sizes"] == {"B": 4, "N": 200, "D": 8, "K": 3}
    assert {"commit", "versions", "device", "p20_ms", "share", "peak_bytes"} <= set(rows[0])
    assert not (tmp_path / "fastkd-bench").exists()


def test_the_registry_is_listed():
    found = run("--list", "--json", "--device", "cpu")
    assert {"rank_topk", "training_step"} <= {row["case"] for row in json.loads(found.stdout)}
    assert "rank_topk" in run("--list", "--device", "cpu").stdout


def test_an_op_whose_tests_fail_is_not_timed(monkeypatch):
    monkeypatch.setattr(gate, "verdict", lambda case, quick=False: gate.Verdict(False, "tests", "FAILED x - boom"))
    found = run(*SMALL, "--no-save")
    assert found.exit_code == 1
    assert "fastkd skipped: not timed, tests fail: FAILED x - boom" in found.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rank_topc",), "Did you mean 'rank_topk'"),
        (("rank_topk", "--against", "fais"), "Did you mean 'faiss'"),
        (("rank_topk", "--shape", "B:4"), "a shape is LETTER=SIZE"),
        (("rank_topk", "--shape", "Q=4"), "no size 'Q'"),
        (("rank_topk", "--shape", "B=1.5"), "B must be a whole number"),
        (("rank_topk", "--shape", "dtype=int8"), "dtype is one of"),
        (("--shape", "B=4"), "needs the name of a case"),
        (("rank_topk", "--pass", "sideways"), "a pass is one of"),
        (("rank_topk", "--device", "tpu"), "device must be cpu or cuda"),
        (("evaluation", "--device", "cpu"), "try --slow"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words, told):
    found = run(*words)
    assert found.exit_code == 2
    assert told in found.stderr
