"""What may be given to a trainer, and what it says of the rest."""

import pytest
import torch
from tiny_run import EVALUATION, FakeMethod, TinyStudent, TinyTeacher, tiny_config, tiny_data, tiny_trainer

from fastkd.core import FastKDWarning, Seeds
from fastkd.distillation import build_method
from fastkd.models import ModelConfig, ModelTeacher, build_model
from fastkd.training import Trainer


def test_a_model_or_its_tables_may_teach():
    data = tiny_data()
    live = build_model(ModelConfig(dim=8), data.train, Seeds(1))
    weights = []
    for teacher in (ModelTeacher(live), live, live.frozen_tables()):
        student, method = TinyStudent(), build_method("rrd", {"top": 20, "ranked": 5}, Seeds(0))
        Trainer(student, data, method, tiny_config(epochs=1), teacher=teacher, evaluation=EVALUATION).fit()
        weights.append(student.items.detach())
    assert all(torch.equal(w, weights[0]) for w in weights)


def test_a_method_is_told_what_it_learns_from_and_for_how_long(tmp_path):
    # The planned length: schedules are laid out over it.
    told = []

    class Told(FakeMethod):
        def prepare(self, teacher, student, train, *, epochs):
            told.append((teacher, student, train, epochs))
            super().prepare(teacher, student, train, epochs=epochs)

    trainer = tiny_trainer(tmp_path, method=Told(), epochs=3)
    trainer.fit()
    assert told == [(trainer.teacher, trainer.student, trainer.data.train, 3)]


def test_what_cannot_teach_or_is_no_method_is_named():
    data = tiny_data()
    with pytest.raises(TypeError, match="teacher must be a Teacher, a model or Tables, got str"):
        Trainer(TinyStudent(), data, None, tiny_config(), teacher="runs/teacher", evaluation=EVALUATION)
    with pytest.raises(TypeError, match=r"method must be one of build_method\(name, options, Seeds\(seed\)\).*'rrd'"):
        Trainer(TinyStudent(), data, "rrd", tiny_config(), teacher=TinyTeacher(), evaluation=EVALUATION)


def test_arguments_in_the_wrong_places_are_named():
    data, config = tiny_data(), tiny_config()
    with pytest.raises(TypeError, match="data must be a Dataset, got NoneType"):
        Trainer(TinyStudent(), None, data, config)
    with pytest.raises(TypeError, match="student must be a Recommender, got Dataset"):
        Trainer(data, data, None, config)
    with pytest.raises(TypeError, match="config must be a TrainingConfig, got dict"):
        Trainer(TinyStudent(), data, None, {"epochs": 1})


def test_a_dense_step_over_many_rows_is_pointed_out(monkeypatch):
    monkeypatch.setattr("fastkd.training.trainer._MANY_ROWS", 71)
    data = tiny_data()

    def fit(**changes):
        student = build_model(ModelConfig(dim=4), data.train, Seeds(0))
        Trainer(student, data, None, tiny_config(epochs=1, batch_size=1, **changes), evaluation=EVALUATION).fit()

    with pytest.warns(FastKDWarning, match=r"adam writes all 71 rows .* reads at most 4: optimizer='row_adam'"):
        fit()
    fit(optimizer="row_adam")
