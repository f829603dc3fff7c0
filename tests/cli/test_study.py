import json
import os
import signal

import pytest

from fastkd.cli.config import stored_study
from fastkd.cli.exits import Interrupted
from fastkd.cli.study import Selection, check_selection, resolved, run_study, with_prerequisites
from fastkd.core.config import from_mapping
from fastkd.core.errors import ConfigError
from fastkd.presets import StudyConfig


def files(folder):
    """Contents of what a finished run must keep."""
    return {
        p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.name in ("test.json", "metrics.jsonl", "result.json")
    }


def test_finished_runs_are_kept_byte_for_byte(fastkd, study, write, tmp_path):
    path = write(study)
    fastkd("distill", path, "--methods", "none", "--folder", tmp_path / "run")
    before = files(tmp_path / "run")
    shown = fastkd("distill", path, "--methods", "none,de", "--folder", tmp_path / "run")
    assert "teacher: finished before, kept" in shown.stderr
    after = files(tmp_path / "run")
    assert {p: after[p] for p in before} == before
    assert (tmp_path / "run" / "students" / "de" / "seed0" / "test.json").is_file()


def test_one_method_at_a_time_gives_the_same_numbers(fastkd, finished, study, write, tmp_path):
    path, run = write(study), tmp_path / "run"
    for method in ("rrd", "none"):
        fastkd("distill", path, "--method", method, "--seed", "0", "--folder", run)
    mine = json.loads((run / "results.json").read_text())
    whole = json.loads((finished / "results.json").read_text())
    for name in ("none", "rrd"):
        assert mine["students"][name]["mean"] == whole["students"][name]["mean"]
    assert mine["students"]["rrd"]["recovered"] == whole["students"]["rrd"]["recovered"]


def test_a_second_seed_gives_mean_and_spread(fastkd, study, write, tmp_path):
    run = tmp_path / "run"
    fastkd("distill", write(study), "--methods", "none,de", "--seeds", "0,5", "--folder", run)
    student = json.loads((run / "results.json").read_text())["students"]["de"]
    a, b = (student["seeds"][s]["metrics"]["ndcg@10"] for s in ("0", "5"))
    assert a != b
    assert student["mean"]["ndcg@10"] == pytest.approx((a + b) / 2)
    assert student["std"]["ndcg@10"] == pytest.approx(abs(a - b) / 2**0.5)
    assert stored_study(run).seeds == (0, 5)


def test_a_changed_study_is_refused_with_both_values(fastkd, finished, study, write):
    study["student"]["training"]["lr"] = 0.5
    shown = fastkd("distill", write(study), "--folder", finished, code=2).stderr
    assert "student.training.lr: 0.02 -> 0.5" in shown


def test_the_data_come_from_the_store_afterwards(fastkd, study, write, tmp_path):
    source = tmp_path / "clicks.csv"
    rows = [f"u{u},i{(u * 7 + j * 3) % 40}" for u in range(60) for j in range(12)]
    source.write_text("user,item\n" + "\n".join(dict.fromkeys(rows)) + "\n")
    study["data"] = {"path": str(source)}
    fastkd("train", write(study), "--role", "teacher", "--folder", tmp_path / "run")
    source.unlink()
    shown = fastkd("train", "--role", "student", "--folder", tmp_path / "run")
    assert "none seed 0" in shown.stderr


def test_a_source_that_changed_is_refused_and_one_touched_or_gone_is_not(fastkd, study, write, tmp_path):
    rows, run = tmp_path / "clicks.csv", tmp_path / "run"
    text = "user,item\n" + "".join(f"{u},{(u * 7 + k) % 12}\n" for u in range(30) for k in range(8))
    rows.write_text(text)
    study["data"] = {"path": str(rows), "split": "random"}
    arguments = ("distill", write(study), "--methods", "none", "--folder", run)
    fastkd(*arguments)
    os.utime(rows, ns=(1, 1))
    fastkd(*arguments)
    rows.write_text(text.replace("0,1\n", "0,11\n", 1))
    shown = fastkd(*arguments, code=3).stderr
    assert "clicks.csv is not what" in shown
    assert "Give another --folder" in shown
    rows.unlink()
    fastkd(*arguments)


def test_warm_starts_bring_what_they_start_from(study):
    config = from_mapping(StudyConfig, study)
    assert with_prerequisites(config, None) == ("none", "rrd", "de", "bd")
    assert with_prerequisites(config, ["bd"]) == ("none", "bd")
    assert with_prerequisites(config, ["de"]) == ("de",)
    assert with_prerequisites(config, []) == ()


def test_the_selection_is_checked_and_names_the_nearest(study):
    config = from_mapping(StudyConfig, study)
    with pytest.raises(ConfigError, match=r"'rrdd'.*Did you mean 'rrd'.*none, rrd, de, bd"):
        check_selection(config, Selection(methods=("rrdd",)))
    kept = resolved(config, Selection(methods=("bd",), seeds=(4,)))
    assert (kept.method_names(), kept.seeds) == (("none", "bd"), (4,))


@pytest.mark.parametrize(
    ("selection", "command"),
    [
        (Selection(), "fastkd distill --folder 'my runs'"),
        (Selection(methods=("rrd",), seeds=(1, 2)), "fastkd distill --folder 'my runs' --methods rrd --seeds 1,2"),
        (Selection(methods=(), seeds=()), "fastkd train --folder 'my runs' --role teacher"),
        (Selection(methods=("none",), teacher=False), "fastkd train --folder 'my runs' --role student"),
    ],
)
def test_the_resume_command_does_the_same_part(selection, command, tmp_path):
    assert selection.command(type(tmp_path)("my runs")) == command


def test_sigterm_outside_training_names_the_command_that_goes_on(study, tmp_path, monkeypatch):
    monkeypatch.setattr("fastkd.cli.study.prepare_data", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="fastkd distill --folder"):
        run_study(from_mapping(StudyConfig, study), tmp_path / "study")
