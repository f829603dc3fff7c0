import dataclasses

import pytest

from fastkd.cli.folders import finished_runs, open_study, read_run_info, student_folder, study_of
from fastkd.core.config import from_mapping, read_yaml
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.presets import MethodConfig, StudyConfig


@pytest.fixture
def config(study):
    return from_mapping(StudyConfig, study)


def test_a_folder_keeps_its_study(tmp_path, config):
    open_study(config, tmp_path / "run")
    assert from_mapping(StudyConfig, read_yaml(tmp_path / "run" / "study.yaml")) == config


def test_methods_and_seeds_are_added(tmp_path, config):
    open_study(config, tmp_path)
    more = dataclasses.replace(config, methods={"rrd-top": MethodConfig(method="rrd")}, seeds=(2, 0))
    merged = open_study(more, tmp_path)
    assert merged.method_names() == ("none", "rrd", "de", "bd", "rrd-top")
    assert merged.seeds == (0, 2)


def test_what_runs_share_may_not_change(tmp_path, config):
    open_study(config, tmp_path)
    model = dataclasses.replace(config.student.model, dim=9)
    other = dataclasses.replace(config, student=dataclasses.replace(config.student, model=model))
    with pytest.raises(ConfigError, match=r"student\.model\.dim: 3 -> 9"):
        open_study(other, tmp_path)


def test_what_never_changes_a_result_may_change(tmp_path, config):
    open_study(config, tmp_path)
    training = dataclasses.replace(config.student.training, checkpoint_every=5, device="cpu")
    open_study(dataclasses.replace(config, student=dataclasses.replace(config.student, training=training)), tmp_path)


def test_a_method_with_runs_may_not_change(tmp_path, config):
    open_study(config, tmp_path)
    other = dataclasses.replace(config, methods={**config.methods, "rrd": MethodConfig(options={"weight": 0.3})})
    open_study(other, tmp_path)  # no runs yet
    student_folder(tmp_path, "rrd", 0).mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"methods\.rrd\.options\.weight: 0\.3 -> 0\.05"):
        open_study(config, tmp_path)


def test_a_strange_folder_is_refused(tmp_path, config):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        open_study(config, tmp_path)


def test_runs_know_their_study(finished):
    run = student_folder(finished, "rrd", 0)
    assert study_of(run) == finished.resolve()
    info = read_run_info(run)
    assert (info.student, info.seed, info.model.dim) == ("rrd", 0, 3)
    assert [f.relative_to(finished).as_posix() for f in finished_runs(finished)] == [
        "teacher",
        "students/bd/seed0",
        "students/de/seed0",
        "students/none/seed0",
        "students/rrd/seed0",
    ]


def test_what_is_no_run_is_named(finished, tmp_path):
    with pytest.raises(CheckpointError, match="a study folder; its runs are in"):
        read_run_info(finished)
    with pytest.raises(CheckpointError, match="no such run folder"):
        read_run_info(tmp_path / "absent")


def test_the_states_a_teacher_keeps_may_not_change(tmp_path, config):
    open_study(config, tmp_path)
    training = dataclasses.replace(config.teacher.training, keep_every=5)
    with pytest.raises(ConfigError, match=r"teacher\.training\.keep_every"):
        open_study(
            dataclasses.replace(config, teacher=dataclasses.replace(config.teacher, training=training)), tmp_path
        )
