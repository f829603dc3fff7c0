"""Methods on every kind of student: autoencoders, cosines, sequences, and pairs without vectors."""

from __future__ import annotations

import pytest
import torch

from fastkd import Seeds, ops
from fastkd.core.errors import ConfigError
from fastkd.distillation import Step, build_method
from fastkd.models import EmbeddingTeacher, ListTeacher, ModelConfig, ModelTeacher, TeacherGroup, build_model
from fastkd.training import Trainer
from tests.contracts.recommender_contract import RecommenderContract, shuffled
from tests.training.tiny_run import EVALUATION, tiny_config, tiny_data

VECTORS = ("lightgcn", "cdae", "sasrec", "simplex")
PAIRS = ("neumf", "deepfm")
OPTIONS = {"simplex": {"drawn": 20}, "deepfm": {"hidden": [8]}}


def student_of(name, data, seed=1):
    config = ModelConfig(name=name, dim=6, init_std=0.3, options=OPTIONS.get(name, {}))
    return build_model(config, data.train, Seeds(seed), sequences=shuffled(data.train))


def teacher_of(data, name="bpr_mf"):
    return ModelTeacher(student_of(name, data, seed=9))


@pytest.mark.parametrize("name", VECTORS + PAIRS)
def test_rrd_is_the_loss_of_the_scores(name):
    data = tiny_data()
    student, method = student_of(name, data).eval(), build_method("rrd", {"top": 20, "ranked": 5}, Seeds(0))
    method.prepare(teacher_of(data), student, data.train, epochs=1)
    method.begin_epoch(0, student)
    batch = RecommenderContract().batch(data.train)
    found = method.loss(Step(batch, student.tables(), 0, 0, lambda *_: torch.zeros(())))
    users = batch.users.unique()
    whole = student.frozen_tables().scores(users, torch.arange(41).expand(len(users), -1))
    scores = [whole.gather(1, ids[users].long()) for ids in (method._ranked, method._unranked.clamp(min=0))]
    scores[1] = scores[1].masked_fill(method._unranked[users] < 0, -torch.inf)
    wanted = ops.relaxed_ranking(*scores, backend="reference").sum()
    torch.testing.assert_close(found.parts["rrd"], wanted)
    found.kd.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())
    assert sum(float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("name", VECTORS + PAIRS)
@pytest.mark.parametrize("teacher", ["bpr_mf", "neumf", "sasrec"])
def test_rrd_trains_every_student_from_every_teacher(name, teacher):
    data = tiny_data()
    student, method = student_of(name, data), build_method("rrd", {"top": 20, "ranked": 5}, Seeds(0))
    before = {key: value.clone() for key, value in student.state_dict().items()}
    config = tiny_config(epochs=1, eval_every=1)
    Trainer(student, data, method, config, teacher=teacher_of(data, teacher), evaluation=EVALUATION).fit()
    assert any(not torch.equal(value, before[key]) for key, value in student.state_dict().items())


def group_of(data):
    """Vectors, a model that scores pairs, and lists."""
    live = teacher_of(data, "sasrec")
    lists = teacher_of(data).lists(data.num_items, None)
    vectors = EmbeddingTeacher(live.tables().users, live.tables().items)
    return TeacherGroup([vectors, teacher_of(data, "deepfm"), ListTeacher(lists.ids, lists.scores, data.num_items)])


@pytest.mark.parametrize("name", VECTORS + PAIRS)
@pytest.mark.parametrize("listed", [0, 4])
def test_prm_kd_is_the_divergence_of_the_scores(name, listed):
    data = tiny_data()
    options = {"listed": listed, "drawn": 7, "temperature": 2.0, "weight": 1.0}
    student, method = student_of(name, data).eval(), build_method("prm_kd", options, Seeds(0))
    method.prepare(group_of(data), student, data.train, epochs=1)
    method.begin_epoch(0, student)
    batch = RecommenderContract().batch(data.train)
    found = method.loss(Step(batch, student.tables(), 0, 0, lambda *_: torch.zeros(())))
    log_q = method._targets[batch.users].double()
    scores = student.frozen_tables().scores(batch.users, method._ids[batch.users])
    log_s = (scores.double() / 2).log_softmax(1)
    # Up to a constant: the entropies of the teachers instead of that of their mixture.
    crossed = -(log_q.exp() * log_s).sum()
    wanted = 4 * (crossed - method._entropy[batch.users].sum())
    torch.testing.assert_close(found.parts["prm_kd"].double(), wanted, rtol=1e-5, atol=1e-5)
    found.kd.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())
    assert sum(float(p.grad.abs().sum()) for p in student.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("name", VECTORS + PAIRS)
def test_prm_kd_brings_every_student_nearer_to_unlike_teachers(name):
    data = tiny_data()
    student, method = student_of(name, data), build_method("prm_kd", {"drawn": 12, "weight": 5.0}, Seeds(0))
    config = tiny_config(epochs=8, eval_every=8, lr=0.05)
    probe = build_method("prm_kd", {"drawn": 12}, Seeds(3))
    probe.prepare(group_of(data), student, data.train, epochs=1)
    probe.begin_epoch(0, student)
    batch = RecommenderContract().batch(data.train)

    def divergence():
        return probe.loss(Step(batch, student.frozen_tables(), 0, 0, lambda *_: torch.zeros(()))).parts["prm_kd"]

    before = divergence()
    Trainer(student, data, method, config, teacher=group_of(data), evaluation=EVALUATION).fit()
    assert divergence() < before


@pytest.mark.parametrize("name", ["lightgcn", "cdae", "sasrec", "simplex"])
@pytest.mark.parametrize("teacher", ["bpr_mf", "sasrec"])
def test_bd_trains_both_each_on_its_own_base_loss(name, teacher):
    data = tiny_data()
    student, method = student_of(name, data), build_method("bd", {"update": 1}, Seeds(0))
    config = tiny_config(epochs=2, eval_every=1)
    given = teacher_of(data, teacher)
    Trainer(student, data, method, config, teacher=given, evaluation=EVALUATION).fit()
    learned = method.modules()["teacher"].state_dict()
    assert any(not torch.equal(value, learned[key]) for key, value in given.model.state_dict().items())
    step = Step(
        RecommenderContract().batch(data.train), student.tables(), 0, 0, lambda _, b, model: len(b) * model.probe
    )
    method._teacher.probe = torch.tensor(2.0)
    assert method.loss(step).parts["teacher_base"] == 80


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", ["de", "bd", "dcd"])
def test_methods_that_need_vectors_refuse_students_without(name, method):
    data = tiny_data()
    student = student_of(name, data)
    made = build_method(method, {}, Seeds(0))
    trainer = Trainer(student, data, made, tiny_config(), teacher=teacher_of(data), evaluation=EVALUATION)
    with pytest.raises(ConfigError, match="scores pairs and has no user and item vectors"):
        trainer.fit()
