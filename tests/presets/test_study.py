import pytest

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError
from fastkd.presets import PRESETS, MethodConfig, StudyConfig

DEMO = to_mapping(PRESETS.get("demo"))


def made(**changes):
    return from_mapping(StudyConfig, {**DEMO, **changes})


def test_the_plain_student_is_always_there_and_first():
    assert made().method_names() == ("none", "rrd", "de", "bd")
    assert made(methods={}).method_names() == ("none",)
    assert made(methods={"de": {}, "none": {"training": {"epochs": 3}}}).method_names() == ("none", "de")


def test_overrides_and_seed_enter_the_training_of_a_student():
    config = made(methods={"rrd": {"training": {"lr": 0.5}}, "none": {"training": {"epochs": 3}}})
    assert config.training_of("rrd", 7).lr == 0.5
    assert config.training_of("rrd", 7).seed == 7
    assert config.training_of("none", 1).epochs == 3
    assert config.training_of("none", 1).lr == config.student.training.lr


def test_variants_of_a_method_stand_beside_each_other():
    config = made(methods={"rrd-top": {"method": "rrd", "options": {"interesting": "topk"}}})
    assert config.registry_name("rrd-top") == "rrd"
    assert config.registry_name("none") == "none"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "a/b"}, "'a/b'"),
        ({"seeds": []}, r"\[\]"),
        ({"seeds": [0, 0]}, r"\[0, 0\]"),
        ({"seeds": [-1]}, r"\[-1\]"),
        ({"methods": {"rrdd": {}}}, "'rrdd'.*Did you mean 'rrd'"),
        ({"methods": {"r/d": {"method": "rrd"}}}, "r/d"),
        ({"methods": {"rrd": {"options": {"wight": 1}}}}, "wight.*Did you mean 'weight'"),
        ({"methods": {"rrd": {"options": {"weight": "much"}}}}, "methods.rrd.options.weight.*'much'"),
        ({"methods": {"rrd": {"training": {"epoch": 1}}}}, "methods.rrd.training.epoch.*Did you mean 'epochs'"),
        ({"methods": {"none": {"options": {"weight": 1}}}}, "methods.none"),
        ({"methods": {"rrd": {"warm_start": "de"}, "de": {}}}, "'de' is no student before it"),
        ({"teacher": None}, "needs a teacher"),
    ],
)
def test_a_study_that_cannot_run_is_refused_when_it_is_made(changes, said):
    with pytest.raises(ConfigError, match=said):
        made(**changes)


def test_teacher_files_stand_for_a_teacher():
    assert made(teacher=None, teacher_files=["t.safetensors"]).teacher is None


def test_a_study_is_a_value():
    config = made()
    with pytest.raises(AttributeError):
        config.name = "other"
    assert made() == config
    assert MethodConfig() == MethodConfig()
