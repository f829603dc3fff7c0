import json

import pytest
import tiny_run
from tiny_run import FakeConfig, FakeMethod, TinyStudent, TinyTeacher, tiny_config, tiny_data

from fastkd.core import Seeds
from fastkd.core.errors import CheckpointError
from fastkd.evaluation import EvalConfig
from fastkd.models import ModelConfig, build_model
from fastkd.training import Trainer
from fastkd.training.identity import identity_of


def identity(**changes):
    parts = {"student": TinyStudent(), "data": tiny_data(), "config": tiny_config(), "evaluation": tiny_run.EVALUATION}
    parts |= {"method": FakeMethod(), "teacher": TinyTeacher()} | changes
    return identity_of(*[parts.pop(k) for k in ("student", "data", "config", "evaluation")], **parts)


def test_the_same_parts_give_the_same_identity_also_after_json():
    first, second = identity(), identity(student=TinyStudent(seed=5))
    assert first == second
    assert json.loads(json.dumps(first.config)) == first.config


class OtherTeacher(TinyTeacher):
    def fingerprint(self):
        return "other"


class Wide(TinyStudent):
    pass


@pytest.mark.parametrize(
    "change",
    [
        {"config": tiny_config(lr=0.1)},
        {"config": tiny_config(seed=4)},
        {"config": tiny_config(log_every=3)},
        {"evaluation": EvalConfig(ks=(10,))},
        {"method": None},
        {"method": FakeMethod(FakeConfig(weight=0.2))},
        {"method": FakeMethod(seeds=Seeds(9))},
        {"teacher": OtherTeacher()},
        {"student": Wide()},
    ],
)
def test_whatever_decides_the_result_enters(change):
    assert identity(**change).config_hash != identity().config_hash


def test_whatever_does_not_stays_out():
    assert identity(config=tiny_config(device="auto", checkpoint_every=3)) == identity()
    cheap = EvalConfig(ks=(5, 10), metrics=("ndcg", "recall"), memory_budget_mb=1)
    assert identity(evaluation=cheap) == identity()
    assert identity(method=None, teacher=OtherTeacher()) == identity(method=None)


def test_other_data_is_seen():
    assert identity(data=tiny_data(1)).data_hash != identity().data_hash


@pytest.mark.parametrize(
    "change",
    [{"layers": 3}, {"init_std": 0.3}, {"seed": 1}, {"name": "bpr_mf"}, {"dim": 5}],
    ids=lambda c: next(iter(c)),
)
def test_a_built_students_configuration_and_seed_enter(change):
    def built(seed=0, **values):
        config = ModelConfig(**{"name": "lightgcn", "dim": 4, "layers": 2} | values)
        return identity(student=build_model(config, tiny_data().train, Seeds(seed)))

    assert built() == built()
    assert built(**change).config_hash != built().config_hash


def test_a_run_of_fewer_layers_is_not_taken_for_one_of_more(tmp_path):
    data = tiny_data()

    def fit(layers):
        student = build_model(ModelConfig(name="lightgcn", dim=4, layers=layers), data.train, Seeds(0))
        return Trainer(
            student, data, None, tiny_config(epochs=1), evaluation=tiny_run.EVALUATION, folder=tmp_path
        ).fit()

    fit(1)
    with pytest.raises(CheckpointError, match=r"layers"):
        fit(3)
