import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

CALL = [sys.executable, "-c", "from fastkd.cli.main import main; main()"]


def test_what_a_dry_run_prints_runs(fastkd, study, write, tmp_path):
    shown = fastkd("distill", write(study), "--methods", "none", "--set", "student.training.epochs=1", "--dry-run")
    again = tmp_path / "again.yaml"
    again.write_text(shown.stdout)
    assert fastkd("distill", again, "--dry-run").stdout == shown.stdout
    fastkd("distill", again, "--folder", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "students" / "none" / "seed0" / "result.json").read_text())
    assert result["epochs_run"] == 1
    assert not (tmp_path / "run" / "students" / "rrd").exists()


@pytest.mark.parametrize("preset", ["demo", "citeulike", "citeulike-rand", "citeulike-lightgcn", "ml1m", "gowalla"])
def test_every_preset_survives_its_yaml(fastkd, preset, tmp_path):
    first = fastkd("distill", "--preset", preset, "--dry-run").stdout
    (tmp_path / "s.yaml").write_text(first)
    assert fastkd("distill", tmp_path / "s.yaml", "--dry-run").stdout == first


def test_a_dry_run_writes_nothing(fastkd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fastkd("distill", "--preset", "demo", "--dry-run")
    fastkd("train", "--preset", "demo", "--dry-run")
    assert list(tmp_path.iterdir()) == []


def test_bd_says_what_a_refresh_takes_and_shows_it_going_on(fastkd, study, write, tmp_path, monkeypatch):
    monkeypatch.setattr("fastkd.cli.progress.LINE_SECONDS", 0.0)
    monkeypatch.setattr("fastkd.distillation._rank_draws.BLOCK_USERS", 100)
    study["methods"] = {"bd": {"training": {"epochs": 1}, "options": {"update": 2}}}
    study["teacher"]["training"]["epochs"] = 1
    said = fastkd("distill", write(study), "--method", "bd", "--folder", tmp_path / "run").stderr.splitlines()
    (line,) = [i for i, text in enumerate(said) if "draws by rank for each of 220 users out of 150 items" in text]
    assert re.search(
        r"bd seed 0: every 2 epochs .*: about .* s, .* moved, .* of scratch, numba \(predicted\)", said[line]
    )
    shares = [re.search(r"drawing by rank: (\d+) %", text) for text in said[line:]]
    found = [int(share[1]) for share in shares if share]
    assert found == sorted(found)
    assert len(found) > 2


def test_hetcomp_says_that_the_teacher_kept_no_states(fastkd, study, write, tmp_path):
    study["methods"] = {"hetcomp": {"training": {"epochs": 1}, "options": {"ranked": 10, "states": 2}}}
    study["teacher"]["training"] |= {"epochs": 2}
    remark = "hetcomp seed 0: hetcomp asks for 2 states of each teacher, there are 1: no easy targets"
    said = fastkd("distill", write(study), "--method", "hetcomp", "--folder", tmp_path / "run").stderr
    assert remark in said
    assert "teacher.training.keep_every=EPOCHS" in said
    study["teacher"]["training"] |= {"keep_every": 1}
    said = fastkd("distill", write(study), "--method", "hetcomp", "--folder", tmp_path / "kept").stderr
    assert "hetcomp asks" not in said


def test_every_method_runs_on_a_file_of_ones_own(fastkd, study, write, tmp_path):
    source = tmp_path / "clicks.csv"
    rows = [f"u{u},i{(u * 7 + j * j * 3) % 60}" for u in range(50) for j in range(12)]
    source.write_text("user,item\n" + "\n".join(dict.fromkeys(rows)) + "\n")
    names = ["kd_ce", "rd", "cd", "rrd", "ir_rrd", "dcd", "bd", "unkd", "hetcomp", "rce_kd"]
    study |= {"data": {"path": str(source)}, "methods": {}}
    for role in ("teacher", "student"):
        study[role]["training"] |= {"epochs": 2}
    study["teacher"]["training"] |= {"keep_every": 1}
    said = fastkd("distill", write(study), "--methods", ",".join(names), "--folder", tmp_path / "run").stderr
    assert f"not in the study, so with default options: {', '.join(names)}" in said
    results = json.loads((tmp_path / "run" / "results.json").read_text())["students"]
    assert set(results) == set(names)
    for name in names:
        assert results[name]["method"] == name
        assert 0 <= results[name]["mean"]["ndcg@10"] <= 1


def test_a_combination_is_the_same_whatever_the_order_of_its_parts(fastkd, study, write, tmp_path):
    for role in ("teacher", "student"):
        study[role]["training"] |= {"epochs": 1, "eval_every": 1}
    file, run = write(study), tmp_path / "run"
    shown = yaml.safe_load(fastkd("distill", file, "--methods", "de+rrd,rrd+de", "--dry-run").stdout)
    assert [name for name in shown["methods"] if "+" in name] == ["de+rrd"]
    for methods in ("rrd+de", "de+rrd", "none,de+rrd,rrd+de"):
        fastkd("distill", file, "--methods", methods, "--folder", run)
    assert sorted(folder.name for folder in (run / "students").iterdir()) == ["none", "rrd+de"]
    assert [name for name in yaml.safe_load((run / "study.yaml").read_text())["methods"] if "+" in name] == ["rrd+de"]


def test_json_is_the_results_file(fastkd, study, write, tmp_path):
    shown = fastkd("train", write(study), "--role", "student", "--folder", tmp_path / "run", "--json")
    assert json.loads(shown.stdout) == json.loads((tmp_path / "run" / "results.json").read_text())


def bad_usage(study, write, tmp_path):
    return [
        (["distill"], 2, "presets: "),
        (["distill", "--preset", "citeulik"], 2, "Did you mean 'citeulike'"),
        (["distill", tmp_path / "absent.yaml"], 2, "absent.yaml"),
        (["distill", "--preset", "demo", "--set", "student.model.dim=0"], 2, "dim must be at least 1, got 0"),
        (["distill", "--preset", "demo", "--methods", "rdd"], 2, "'rdd'"),
        (["distill", "--preset", "demo", "--seeds", "one"], 2, "'one'"),
        (["train", "--preset", "demo", "--role", "boss"], 2, "boss"),
        (["train", "--preset", "demo", "--seeds", "3"], 2, "--seeds 3"),
        (["distill", "--folder", tmp_path / "nowhere"], 2, "nowhere"),
        (["distill", "--preset", "ml1m", "--set", "data.path=no.parquet", "--folder", tmp_path / "a"], 3, "no.parquet"),
        (["distill", write(study), "--teacher", tmp_path / "t.npy", "--folder", tmp_path / "b"], 3, "t.npy"),
        (["evaluate", tmp_path / "norun"], 4, "norun"),
    ]


@pytest.mark.parametrize("case", range(12))
def test_bad_input_has_its_code_and_names_the_value(fastkd, study, write, tmp_path, case):
    args, code, said = bad_usage(study, write, tmp_path)[case]
    shown = fastkd(*args, code=code).stderr
    assert said in shown
    if code != 2 or "Usage" not in shown:
        assert [line for line in shown.splitlines() if line.startswith("error: ")] == shown.splitlines()[-1:]


def test_a_disk_that_refuses_is_4(fastkd, study, write, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file" in fastkd("train", write(study), "--folder", tmp_path / "file" / "run", code=4).stderr


def test_a_loss_that_is_not_finite_is_1(fastkd, study, write, tmp_path):
    args = (
        "--set",
        "teacher.training.lr=1e30",
        "--set",
        "teacher.training.optimizer=sgd",
        "--folder",
        tmp_path / "run",
    )
    assert "step" in fastkd("train", write(study), *args, code=1).stderr


def test_an_interrupted_run_resumes_to_the_same_bytes(fastkd, study, write, tmp_path):
    study["teacher"]["training"] |= {"epochs": 200, "eval_every": 20}
    path = write(study)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*CALL, "train", str(path), "--role", "teacher", "--folder", str(tmp_path / "stopped")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    log = tmp_path / "stopped" / "teacher" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.is_file() and log.read_bytes().count(b"\n") >= 5) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 130, shown
    resume = shown.strip().splitlines()[-1].partition("go on with: ")[2]
    assert resume == f"fastkd train --folder {tmp_path / 'stopped'} --role teacher"
    stopped = log.read_bytes()
    fastkd(*resume.split()[1:])
    fastkd("train", path, "--role", "teacher", "--folder", tmp_path / "whole")
    whole = (tmp_path / "whole" / "teacher" / "metrics.jsonl").read_bytes()
    assert len(stopped) < len(whole)
    assert log.read_bytes() == whole


def test_a_study_file_is_kept_readable(finished):
    kept = yaml.safe_load((finished / "study.yaml").read_text())
    assert list(kept["methods"]) == ["rrd", "de", "bd"]
