import json
import shutil
import sys

import pytest
import yaml

from fastkd.cli import tuning
from fastkd.cli.config import stored_study
from fastkd.cli.tuning import own_values, read_trials
from fastkd.core.config import from_mapping
from fastkd.core.errors import ConfigError, TrainingError
from fastkd.presets import StudyConfig

SPACE = {"options.weight": {"low": 0.01, "high": 1.0, "log": True}, "training.weight_decay": [0.0, 1e-4, 1e-3]}


@pytest.fixture
def small(study):
    """Two methods, one of which starts from the plain student; two epochs each."""
    study["teacher"]["training"]["epochs"] = 2
    study["student"]["training"] |= {"epochs": 2, "eval_every": 1}
    rrd, bd = study["methods"]["rrd"], study["methods"]["bd"]
    study["methods"] = {
        "none": {"search": {"training.lr": [0.02, 0.05, 0.01]}},
        "rrd": rrd | {"search": SPACE},
        "bd": bd | {"training": {"epochs": 1}, "search": {"options.weight": {"low": 0.1, "high": 1.0}}},
    }
    return study


@pytest.fixture
def opened(monkeypatch):
    """Splits in the order in which they are evaluated, each with the trials there are by then."""
    splits = []
    for module in ("fastkd.cli.runs", "fastkd.training.loop"):
        real = sys.modules[module].evaluate

        def spy(model, data, split, real=real, **options):
            splits.append(split)
            return real(model, data, split, **options)

        monkeypatch.setattr(f"{module}.evaluate", spy)
    return splits


def rows(folder, name):
    return [(t.values, t.value) for t in read_trials(folder, name).trials]


def test_every_student_has_its_trials_and_the_best_values_are_used(fastkd, small, write, tmp_path, opened):
    run = tmp_path / "run"
    shown = fastkd("distill", write(small), "--tune", 3, "--seeds", "0,1", "--folder", run)
    config, results = stored_study(run), json.loads((run / "results.json").read_text())
    for name in ("none", "rrd", "bd"):
        state, tuned = read_trials(run, name), config.tuned[name]
        assert [t.number for t in state.trials] == [0, 1, 2]
        assert state.trials[0].values == own_values(config, name)
        assert len({json.dumps(t.values) for t in state.trials}) == 3
        assert tuned.value == max(t.value for t in state.trials)
        assert (tuned.trials, tuned.seed, tuned.metric, tuned.values) == (3, 0, "ndcg@10", state.best.values)
        student = results["students"][name]
        assert student["tuned"]["values"] == tuned.values
        for seed in ("0", "1"):
            made = student["seeds"][seed]["definition"]
            for key, value in tuned.values.items():
                part, _, field = key.partition(".")
                assert made[part][field] == value
        # The best trial's run is that of its seed.
        assert student["seeds"]["0"]["valid"]["ndcg@10"] == tuned.value
        assert not list((run / "tuning" / name).glob("trial-*"))
    # Teacher first; then trials alone; then each student's test split once a seed.
    tests = [at for at, split in enumerate(opened) if split == "test"]
    trials = opened[tests[0] + 1 : tests[1]]
    assert set(trials) == {"valid"}
    assert len(trials) == 3 * (2 + 2 + 1)
    assert len(tests) == 1 + 3 * 2
    assert "Tuning" in shown.stdout
    assert "3 trials" in shown.stderr
    page = (run / "report.html").read_text()
    assert f"weight {config.tuned['rrd'].values['options.weight']:.3g}" in page


def test_a_killed_search_goes_on_with_the_same_trials(fastkd, small, write, tmp_path, monkeypatch):
    path, whole, stopped = write(small), tmp_path / "whole", tmp_path / "stopped"
    fastkd("distill", path, "--methods", "rrd", "--tune", 3, "--folder", whole)
    real, calls = tuning.train_run, []

    def dying(run, room, teacher):
        calls.append(run.folder.name)
        if len(calls) == 2:
            real(run, room, teacher)  # trained, and killed before its row is written
            raise KeyboardInterrupt
        return real(run, room, teacher)

    monkeypatch.setattr(tuning, "train_run", dying)
    shown = fastkd("distill", path, "--methods", "rrd", "--tune", 3, "--folder", stopped, code=130)
    resume = shown.stderr.strip().splitlines()[-1].partition("go on with: ")[2]
    assert resume.endswith("--methods rrd --tune 3")
    assert len(read_trials(stopped, "rrd").trials) == 1
    fastkd(*resume.split()[1:])
    assert calls == ["trial-0", "trial-1", "trial-1", "trial-2"]
    assert rows(stopped, "rrd") == rows(whole, "rrd")
    assert stored_study(stopped).tuned == stored_study(whole).tuned
    tests = [json.loads((f / "students/rrd/seed0/test.json").read_text())["metrics"] for f in (stopped, whole)]
    assert tests[0] == tests[1]
    # Done: the same command trains nothing more.
    calls.clear()
    fastkd(*resume.split()[1:])
    assert calls == []


def test_a_trial_that_fails_counts_and_is_told(fastkd, small, write, tmp_path, monkeypatch):
    real = tuning.train_run

    def failing(run, room, teacher):
        if run.folder.name == "trial-1":
            raise TrainingError("loss is nan at step 3")
        return real(run, room, teacher)

    monkeypatch.setattr(tuning, "train_run", failing)
    shown = fastkd("distill", write(small), "--methods", "rrd", "--tune", 3, "--folder", tmp_path / "run")
    assert "rrd trial 2 of 3: failed, loss is nan at step 3" in shown.stderr
    state = read_trials(tmp_path / "run", "rrd")
    assert state.trials[1].value is None
    assert state.trials[1].failed == "loss is nan at step 3"
    assert state.trials[2].value is not None
    monkeypatch.setattr(tuning, "train_run", lambda *_: (_ for _ in ()).throw(TrainingError("all nan")))
    shown = fastkd("distill", write(small), "--methods", "rrd", "--tune", 1, "--folder", tmp_path / "b", code=1)
    assert "every trial of rrd failed; the last one: all nan" in shown.stderr


def test_what_was_made_otherwise_is_refused_before_training(fastkd, finished, small, study, write, tmp_path):
    shown = fastkd("distill", "--folder", finished, "--methods", "rrd", "--tune", 2, code=2).stderr
    assert "holds runs made as configured; tune in another --folder" in shown
    run = tmp_path / "run"
    fastkd("distill", write(small), "--methods", "rrd", "--tune", 2, "--folder", run)
    shown = fastkd("distill", "--folder", run, "--methods", "rrd", "--tune", 5, code=2).stderr
    assert "holds runs made with what 2 trials chose" in shown
    small["methods"]["rrd"]["options"]["weight"] = 0.5
    shown = fastkd("distill", write(small), "--methods", "rrd", "--tune", 2, "--folder", run, code=2).stderr
    assert "methods.rrd.options.weight: 0.05 -> 0.5" in shown
    # Trials of another space, when the study no longer speaks of them.
    shutil.rmtree(run / "students")
    kept = yaml.safe_load((run / "study.yaml").read_text())
    del kept["tuned"]
    kept["methods"]["rrd"]["search"]["training.weight_decay"] = [0.0]
    (run / "study.yaml").write_text(yaml.safe_dump(kept, sort_keys=False))
    shown = fastkd("distill", "--folder", run, "--methods", "rrd", "--tune", 2, code=2).stderr
    assert "space.training.weight_decay: [0.0, 0.0001, 0.001] -> [0.0]" in shown
    (run / "tuning" / "rrd" / "trials.json").write_text("{")
    shown = fastkd("distill", "--folder", run, "--methods", "rrd", "--tune", 2, code=4).stderr
    assert "trials.json is damaged" in shown


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"search": {"options.ranked": [0]}}, "ranked must be at least 1, got 0"),
        ({"search": {"training.lr": {"low": -1.0, "high": 1.0}}}, "lr must be a finite number above 0, got -1.0"),
        ({"search": SPACE, "training": {"eval_every": 0}}, "rrd has training.eval_every=0"),
    ],
)
def test_a_space_that_cannot_run_is_refused(fastkd, small, write, tmp_path, changes, said):
    small["methods"]["rrd"] |= changes
    run = tmp_path / "run"
    assert said in fastkd("distill", write(small), "--methods", "rrd", "--tune", 2, "--folder", run, code=2).stderr
    assert not (run / "teacher").exists()


def test_without_optuna_it_says_what_to_install(fastkd, small, write, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    for more in ((), ("--dry-run",)):
        shown = fastkd("distill", write(small), "--tune", 2, "--folder", tmp_path / "run", *more, code=2).stderr
        assert "--tune needs Optuna, which is not installed: pip install 'fastkd[tune]'" in shown
    assert not (tmp_path / "run").exists()


def test_a_dry_run_spells_out_what_is_searched(fastkd, study, write, tmp_path):
    shown = fastkd("distill", write(study), "--tune", 4, "--methods", "none,rrd", "--dry-run").stdout
    methods = yaml.safe_load(shown)["methods"]
    assert set(methods) == {"none", "rrd"}
    assert methods["rrd"]["search"]["options.weight"] == {"low": 0.001, "high": 1.0, "log": True}
    assert "training.lr" in methods["none"]["search"]
    (tmp_path / "again.yaml").write_text(shown)
    again = fastkd("distill", tmp_path / "again.yaml", "--tune", 4, "--methods", "none,rrd", "--dry-run").stdout
    assert again == shown
    assert "Invalid value" in fastkd("distill", write(study), "--tune", 0, "--dry-run", code=2).stderr


def test_own_values_are_those_before_tuning(small):
    small["tuned"] = {"rrd": {"trials": 1, "seed": 0, "metric": "m", "value": 0.1, "values": {"options.weight": 0.7}}}
    config = from_mapping(StudyConfig, small)
    assert config.options_of("rrd")["weight"] == 0.7
    assert own_values(config, "rrd") == {"options.weight": 0.05, "training.weight_decay": 1e-3}


def test_a_method_without_a_space_says_where_to_put_one(small, tmp_path, monkeypatch):
    monkeypatch.setattr("fastkd.presets.study.SEARCH", {})
    small["methods"]["rrd"].pop("search")
    with pytest.raises(ConfigError, match=r"rrd has no search space.*methods\.rrd\.search"):
        tuning.check_tunable(from_mapping(StudyConfig, small), tmp_path, ["rrd"], 2)
