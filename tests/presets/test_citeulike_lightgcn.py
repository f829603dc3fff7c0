from fastkd.presets import PRESETS


def test_published_hyper_parameters_and_the_stated_deviation():
    study = PRESETS.get("citeulike-lightgcn")
    assert study.teacher.model.name == study.student.model.name == "lightgcn"
    assert (study.teacher.model.layers, study.student.model.dim) == (3, 20)
    assert study.teacher.training.weight_decay == 1e-7
    assert study.training_of("none", 0).weight_decay == 1e-3
    assert study.training_of("rrd", 0).weight_decay == 1e-5
    options = study.methods["rrd"].options
    assert [options[k] for k in ("weight", "ranked", "unranked")] == [0.01, 50, 100]
    assert str(study.teacher.model.dim) in study.published.protocol


def test_it_is_citeulikes_data():
    assert PRESETS.get("citeulike-lightgcn").data == PRESETS.get("citeulike").data


def test_every_method_is_there():
    study = PRESETS.get("citeulike-lightgcn")
    assert set(PRESETS.get("ml1m").methods) <= set(study.methods)
    assert study.options_of("rce_kd")["beta"] == 10.0
    assert study.options_of("unkd")["pairs"] == 30
    assert study.training_of("cd", 0).weight_decay == 1e-8
    for name in study.methods:
        assert study.training_of(name, 0).epochs <= study.training_of("none", 0).epochs
