import pytest

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError
from fastkd.distillation import METHODS
from fastkd.presets import PRESETS, StudyConfig
from fastkd.presets.search import SEARCH, check_space

DEMO = to_mapping(PRESETS.get("demo"))


@pytest.mark.parametrize("name", sorted(SEARCH))
def test_the_spaces_are_those_of_registered_methods(name):
    check_space("search", SEARCH[name], name)
    assert name == "none" or name in METHODS
    assert "training.weight_decay" in SEARCH[name]
    assert name == "none" or "options.weight" in SEARCH[name]


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_student_of_every_preset_has_a_space_and_its_values_can_be_had(preset):
    study = PRESETS.get(preset)
    whole = to_mapping(study)
    for name in study.method_names():
        space = study.search_of(name)
        assert space
        alone = {**whole, "methods": {name: whole["methods"][name]} if name in whole["methods"] else {}}
        for key, values in space.items():
            for value in (values["low"], values["high"]) if isinstance(values, dict) else values:
                tuned = {"trials": 1, "seed": 0, "metric": "", "value": 0.0, "values": {key: value}}
                made = from_mapping(StudyConfig, alone | {"tuned": {name: tuned}})
                part, _, field = key.partition(".")
                found = made.options_of(name) if part == "options" else vars(made.training_of(name, 0))
                assert found[field] == value


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"options.wieght": [1.0]}, r"unknown key 'options\.wieght'.*Did you mean 'options\.weight'"),
        ({"weight": [1.0]}, "unknown key 'weight'"),
        ({"training.epoch": [1]}, r"Did you mean 'training\.epochs'"),
        ({"training.seed": [1, 2]}, r"unknown key 'training\.seed'"),
        ({"training.monitor": ["ndcg@5"]}, r"unknown key 'training\.monitor'"),
        ({"options.weight": []}, r"expected choices or a range .*got \[\]"),
        ({"options.weight": 1.0}, r"got 1\.0"),
        ({"options.weight": [[1.0]]}, r"got \[\[1\.0\]\]"),
        ({"options.weight": [float("nan")]}, "got .nan"),
        ({"options.weight": {"low": 2.0, "high": 1.0}}, "low < high"),
        ({"options.weight": {"low": 0.0, "high": 1.0, "log": True}}, "a range is"),
        ({"options.weight": {"low": 0.1, "high": float("inf")}}, "a range is"),
        ({"options.weight": {"low": "a", "high": 1.0}}, "a range is"),
        ({"options.weight": {"low": 0.1, "high": 1.0, "step": 2}}, "a range is"),
    ],
)
def test_a_space_that_means_nothing_is_refused_when_the_study_is_made(space, said):
    with pytest.raises(ConfigError, match=said):
        from_mapping(StudyConfig, DEMO | {"methods": {"rrd": {"search": space}}})


def test_the_plain_student_has_no_options_to_search():
    with pytest.raises(ConfigError, match=r"unknown key 'options\.weight'"):
        from_mapping(StudyConfig, DEMO | {"methods": {"none": {"search": {"options.weight": [1.0]}}}})


def test_an_own_space_replaces_the_methods():
    space = {"options.temperature": [5.0]}
    study = from_mapping(StudyConfig, DEMO | {"methods": {"rrd": {"search": space}}})
    assert study.search_of("rrd") == space
    assert study.search_of("none") == SEARCH["none"]


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        ({"rrdd": {}}, "tuned.rrdd is no student of this study"),
        ({"rrd": {"options.wieght": 1.0}}, r"tuned\.rrd\.values: unknown key 'options\.wieght'"),
        ({"rrd": {"options.weight": -1.0}}, r"weight must be .*-1\.0"),
        ({"none": {"options.weight": 1.0}}, r"tuned\.none\.values: unknown key"),
    ],
)
def test_tuned_values_are_checked_as_own_ones_are(tuned, said):
    given = {k: {"trials": 1, "seed": 0, "metric": "", "value": 0.0, "values": v} for k, v in tuned.items()}
    with pytest.raises(ConfigError, match=said):
        from_mapping(StudyConfig, DEMO | {"tuned": given})


def test_tuned_values_stand_over_own_ones():
    values = {"options.weight": 0.7, "training.lr": 0.5}
    tuned = {"trials": 4, "seed": 0, "metric": "ndcg@10", "value": 0.1, "values": values}
    study = from_mapping(StudyConfig, DEMO | {"tuned": {"rrd": tuned}})
    assert study.options_of("rrd")["weight"] == 0.7
    assert study.options_of("rrd")["ranked"] == DEMO["methods"]["rrd"]["options"]["ranked"]
    assert study.training_of("rrd", 3).lr == 0.5
    assert study.training_of("none", 3).lr == DEMO["student"]["training"]["lr"]
    assert study.options_of("none") == {}
    assert from_mapping(StudyConfig, to_mapping(study)) == study
