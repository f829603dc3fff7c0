import json

import numpy as np
import pytest

from fastkd.cli.commands.methods import method_rows
from fastkd.distillation import METHODS, Shape
from fastkd.presets import PRESETS


def test_methods_state_paper_knowledge_and_cost(fastkd):
    rows = json.loads(fastkd("methods", "--json").stdout)
    assert [r["name"] for r in rows] == list(METHODS)
    assert all(r["paper"] and r["knowledge"] and r["cost"] for r in rows)
    shown = fastkd("methods").stdout
    assert all(name in shown for name in METHODS)
    assert "100 k users x 1 M items, 2 M interactions" in shown


def test_cost_is_that_of_the_size_asked_for(fastkd):
    size = ("--users", 500, "--items", 4000, "--dim", 8, "--teacher-dim", 64, "--batch", 128)
    rows = {r["name"]: r for r in json.loads(fastkd("methods", "--json", *size).stdout)}
    # RRD: the teacher scores every pair once; 40 + 40 items per distinct user, three passes.
    assert rows["rrd"]["cost"]["prepare"]["flops"] == 2 * 500 * 4000 * 64
    users = 500 * (1 - (1 - 1 / 500) ** 128)
    assert rows["rrd"]["cost"]["step"]["flops"] == pytest.approx(3 * 2 * users * 80 * 8)
    assert rows["rrd"]["cost"]["memory_bytes"] == 4 * 500 * (500 + 80)
    assert rows["bd"]["cost"]["refresh_every"] == 10
    assert "500 users x 4 000 items, 10 000 interactions" in fastkd("methods", *size).stdout


def test_a_size_of_nothing_is_refused(fastkd):
    assert "--items" in fastkd("methods", "--items", 0, code=2).stderr


def test_a_method_that_states_no_cost_is_listed_all_the_same(fastkd, monkeypatch):
    monkeypatch.setattr(METHODS.get("rrd"), "cost", classmethod(lambda cls, config, at: None))
    at = Shape(users=1, items=1, dim=1, teacher_dim=1, batch=1, interactions=1)
    assert next(r for r in method_rows(at) if r["name"] == "rrd")["cost"] is None
    assert any(line.startswith("rrd") and line.split().count("?") == 5 for line in fastkd("methods").stdout.split("\n"))


def test_presets_are_listed(fastkd):
    shown = fastkd("methods", "--presets").stdout
    assert all(name in shown for name in PRESETS)


def test_methods_a_study_lacks_run_on_a_file_of_ones_own(fastkd, study, write, tmp_path):
    random = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in random.integers(0, (60, 50), (700, 2))}
    file = tmp_path / "mine.csv"
    file.write_text("user,item\n" + "".join(f"u{u},i{i}\n" for u, i in sorted(pairs)))
    study["data"] = {"path": str(file)}
    study["methods"] = {"rce_kd": {"options": {"listed": 5, "drawn": 5, "top": 20}}}
    for role in ("teacher", "student"):
        study[role]["training"] |= {"epochs": 1, "eval_every": 1}
    names = ["kd_ce", "rd", "cd", "rce_kd"]
    shown = fastkd("distill", write(study), "--method", ",".join(names), "--folder", tmp_path / "run")
    assert "not in the study, so with default options: kd_ce, rd, cd" in shown.stderr
    for name in names:
        result = json.loads((tmp_path / "run" / "students" / name / "seed0" / "result.json").read_text())
        assert result["epochs_run"] == 1


def test_presets_have_no_size(fastkd):
    shown = fastkd("methods", "--presets", "--users", 5, "--teacher-dim", 64, code=2).stderr
    assert "--presets takes no --users, --teacher-dim: a size is for the cost of methods; leave out either" in shown
    fastkd("methods", "--presets", "--json")
