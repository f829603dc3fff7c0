import json

import pytest


def test_it_finds_the_tested_numbers_again(fastkd, finished):
    run = finished / "students" / "rrd" / "seed0"
    shown = json.loads(fastkd("evaluate", run, "--json").stdout)
    tested = json.loads((run / "test.json").read_text())
    assert shown["metrics"] == pytest.approx(tested["metrics"])
    valid = json.loads(fastkd("evaluate", run, "--split", "valid", "--json").stdout)
    assert valid["metrics"]["ndcg@10"] == pytest.approx(tested["valid"]["ndcg@10"])


def test_two_runs_are_compared_user_by_user(fastkd, finished):
    args = ("evaluate", finished / "teacher", "--against", finished / "students" / "none" / "seed0")
    test = json.loads(fastkd(*args, "--json").stdout)["tests"]["ndcg@10"]
    assert test["mean_difference"] == pytest.approx(test["mean_a"] - test["mean_b"])
    shown = fastkd(*args).stdout
    assert f"{test['mean_difference']:+.4f}" in shown


def test_options_can_be_changed_and_are_checked(fastkd, finished):
    run = finished / "teacher"
    shown = json.loads(fastkd("evaluate", run, "--set", "ks=[3]", "--set", "metrics=[hr]", "--json").stdout)
    assert list(shown["metrics"]) == ["hr@3"]
    assert "9999" in fastkd("evaluate", run, "--set", "ks=[9999]", code=2).stderr
    unknown = fastkd("evaluate", run, "--set", "backend=foo", code=2).stderr
    assert "backend must be one of auto, triton, numba, reference, got 'foo'" in unknown
    assert "testt" in fastkd("evaluate", run, "--split", "testt", code=2).stderr


def test_runs_of_other_data_are_not_compared(fastkd, finished, study, write, tmp_path):
    study["data"]["synthetic"]["seed"] = 9
    study["teacher"]["training"]["epochs"] = 1
    fastkd("train", write(study), "--folder", tmp_path / "other")
    shown = fastkd("evaluate", finished / "teacher", "--against", tmp_path / "other" / "teacher", code=3).stderr
    assert "other data" in shown


def test_another_run_is_ranked_with_its_own_order_of_time(fastkd, orders):
    mine, other = (study / "teacher" for study in orders)
    alone = json.loads(fastkd("evaluate", other, "--json").stdout)["metrics"]
    tests = json.loads(fastkd("evaluate", mine, "--against", other, "--json").stdout)["tests"]
    assert {metric: test["mean_b"] for metric, test in tests.items()} == pytest.approx(alone)
    assert any(test["mean_a"] != test["mean_b"] for test in tests.values())
