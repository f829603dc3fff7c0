"""The gate: a wrong op and a red test are not timed, a verdict is kept until something changes."""

import subprocess
from dataclasses import replace

import pytest
import torch

from fastkd.bench import CASES, Settings, gate, run_case
from fastkd.bench.roofline import Roofline

ROOF = Roofline(1e10, {"float32": 1e11}, 1)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda c: c.name)
def test_every_case_agrees_with_its_reference_at_its_small_odd_point(case):
    assert gate.numeric(case, "cpu") is None


@pytest.mark.parametrize("name", ["listnet", "rank_topk"])
def test_a_wrong_op_is_not_timed(name):
    case = CASES[name]

    def wrong(inputs, backend):
        found = case.call(inputs, backend)
        if backend == "reference":
            return found
        return found.ids.flip(1) if name == "rank_topk" else found * 1.05

    rows = list(run_case(replace(case, call=wrong), case.points[:1], Settings(against=()), ROOF))
    assert len(rows) == 1
    assert "not timed" in rows[0]["skipped"]
    assert "against its reference" in rows[0]["skipped"]


def test_a_wrong_gradient_is_caught():
    case = CASES["listnet"]

    class Off(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return 1.1 * g

    def wrong(inputs, backend):
        found = case.call(inputs, backend)
        return found if backend == "reference" else Off.apply(found)

    assert "differs" in gate.numeric(replace(case, call=wrong), "cpu")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one test file, and a pytest whose verdict the test decides."""
    (tmp_path / "tests" / "ops").mkdir(parents=True)
    (tmp_path / "fastkd" / "ops").mkdir(parents=True)
    (tmp_path / "tests" / "conftest.py").write_text("")
    (tmp_path / "tests" / "ops" / "test_x.py").write_text("def test_x(): pass")
    (tmp_path / "fastkd" / "ops" / "x.py").write_text("x = 1")
    monkeypatch.setattr(gate, "checkout", lambda: tmp_path)
    monkeypatch.setenv("FASTKD_CACHE", str(tmp_path / "cache"))
    gate.fingerprint.cache_clear()
    runs, codes = [], [0]

    def run(root, tests, more):
        runs.append((tuple(tests), tuple(more)))
        return subprocess.CompletedProcess([], codes[-1], "FAILED tests/ops/test_x.py::test_x - boom\n", "")

    monkeypatch.setattr(gate, "_pytest", run)
    yield tmp_path, runs, codes
    gate.fingerprint.cache_clear()


CASE = replace(CASES["listnet"], tests=("tests/ops/test_x.py",))


def test_a_verdict_is_kept_until_the_package_changes(checkout):
    root, runs, codes = checkout
    assert gate.verdict(CASE) == gate.Verdict(True, "tests")
    assert gate.verdict(CASE) == gate.Verdict(True, "tests")
    assert len(runs) == 1
    (root / "fastkd" / "ops" / "x.py").write_text("x = 2")
    gate.fingerprint.cache_clear()
    codes.append(1)
    assert gate.verdict(CASE) == gate.Verdict(False, "tests", "FAILED tests/ops/test_x.py::test_x - boom")
    assert len(runs) == 2


def test_a_red_test_stops_the_case(checkout):
    _, _, codes = checkout
    codes.append(1)
    (row,) = run_case(CASE, CASE.points[:1], Settings(against=()), ROOF)
    assert row["skipped"] == "not timed, tests fail: FAILED tests/ops/test_x.py::test_x - boom"


def test_a_quick_run_takes_a_part_of_the_tests_and_trusts_a_full_verdict(checkout):
    _, runs, _ = checkout
    assert gate.verdict(CASE, quick=True).how == "quick tests"
    assert runs[-1][1] == ("-k", gate.QUICK)
    assert gate.verdict(CASE).how == "tests"
    assert gate.verdict(CASE, quick=True).how == "tests"
    assert len(runs) == 2


def test_cases_are_judged_in_one_process(checkout):
    _, runs, _ = checkout
    cases = [replace(CASE, name=name) for name in ("a", "b", "c")]
    gate.judge_together(cases, quick=False)
    assert len(runs) == 1
    assert all(gate.verdict(case).passed for case in cases)
    assert len(runs) == 1


def test_processes_share_the_files_of_a_quick_run(checkout, monkeypatch):
    root, runs, _ = checkout
    monkeypatch.setattr(gate, "cpu_count", lambda: 2)
    sizes = {"tests/ops/test_x.py": 50, "tests/ops/test_y.py": 30, "tests/ops/test_z.py": 40}
    cases = []
    for test, size in sizes.items():
        (root / test).write_text("#" * size)
        cases.append(replace(CASE, name=test, tests=(test,)))
    gate.judge_together(cases, quick=True)
    expected = {("tests/ops/test_x.py",), ("tests/ops/test_z.py", "tests/ops/test_y.py")}
    if torch.cuda.is_available():
        expected = {("tests/ops/test_x.py", "tests/ops/test_z.py", "tests/ops/test_y.py")}
    assert {tests for tests, _ in runs} == expected
    assert all(gate.verdict(case, quick=True).how == "quick tests" for case in cases)
    assert len(runs) == len(expected)


def test_a_part_that_fails_leaves_each_case_to_its_own_tests(checkout):
    _, runs, codes = checkout
    codes.append(1)
    cases = [replace(CASE, name=name) for name in ("a", "b")]
    gate.judge_together(cases, quick=True)
    assert not any(gate.verdict(case, quick=True).passed for case in cases)
    assert len(runs) == 3


def test_an_installed_package_is_checked_against_its_reference_alone(monkeypatch):
    monkeypatch.setattr(gate, "checkout", lambda: None)
    assert gate.verdict(CASE) == gate.Verdict(True, "check alone")
