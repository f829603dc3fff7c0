"""The feature methods in the presets: published values, and combinations that are their parts."""

import pytest

from fastkd.presets import PRESETS

FEATURES = ("hint", "phr", "ftd", "htd", "pckd", "freqd")
PUBLISHED = {
    ("citeulike", "hint"): ({"weight": 0.05, "projector": "mlp", "hidden_ratio": 5.0, "dropout": 0.2}, 1e-7),
    ("citeulike", "htd"): ({"weight": 0.5, "gamma": 0.9, "experts": 30, "pairs": "code"}, 1e-8),
    ("citeulike", "pckd"): (
        {"weight": 0.05, "alpha": 0.1, "guide": "teacher", "listed": 5, "top": 100, "list_temperature": 0.1}, 1e-4,
    ),
    ("citeulike", "freqd"): ({"weight": 0.5, "strength": 0.2, "order": "before"}, 1e-8),
    ("citeulike", "ftd"): ({"weight": 1e-3}, 1e-3),
    ("citeulike", "phr"): ({"weight": 0.01}, 1e-4),
    ("gowalla", "pckd"): (
        {"weight": 0.005, "alpha": 0.5, "guide": "teacher", "listed": 10, "top": 100, "list_temperature": 0.01}, 1e-3,
    ),
    ("gowalla", "freqd"): (
        {"weight": 0.5, "strength": 0.5, "neighbours": 5, "edge_dropout": 0.5, "dropout": 0.2, "experts": 5}, 1e-3,
    ),
    ("gowalla", "htd"): ({"gamma": 0.5, "experts": 30}, 1e-8),
    ("citeulike-lightgcn", "htd"): ({"weight": 0.5, "gamma": 0.9, "experts": 30, "pairs": "code"}, 1e-8),
    ("citeulike-lightgcn", "pckd"): (
        {"weight": 0.005, "alpha": 0.05, "guide": "teacher", "listed": 5, "top": 500, "list_temperature": 0.01}, 1e-5,
    ),
    ("citeulike-lightgcn", "freqd"): ({"weight": 0.1, "order": "before"}, 1e-7),
}  # fmt: skip


@pytest.mark.parametrize(("preset", "method"), PUBLISHED)
def test_published_values_are_in_force(preset, method):
    study, (wanted, decay) = PRESETS.get(preset), PUBLISHED[preset, method]
    options = study.options_of(method)
    assert {key: options[key] for key in wanted} == wanted
    assert study.training_of(method, 0).weight_decay == decay


@pytest.mark.parametrize("preset", ["citeulike", "citeulike-rand", "citeulike-lightgcn", "ml1m", "gowalla"])
def test_every_feature_method_is_there_and_none_trains_longer_than_the_plain_student(preset):
    study = PRESETS.get(preset)
    for name in (*FEATURES, "de+rrd"):
        assert name in study.method_names()
        assert study.training_of(name, 0).epochs <= study.training_of("none", 0).epochs


@pytest.mark.parametrize("preset", ["citeulike", "citeulike-rand", "citeulike-lightgcn", "ml1m", "gowalla"])
def test_the_combination_is_its_parts_as_they_stand(preset):
    study = PRESETS.get(preset)
    parts = study.options_of("de+rrd")["methods"]
    assert parts == {name: study.options_of(name) for name in ("de", "rrd")}
