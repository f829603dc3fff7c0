"""Methods on every kind of student: autoencoders, cosines, sequences, and pairs without vectors."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from fastkd import Seeds, ops
from fastkd.core.errors import ConfigError
from fastkd.distillation import Step, _rank_draws, build_method, rrd
from fastkd.distillation.entities import padded_entities
from fastkd.models import (
    EmbeddingTeacher,
    ListTeacher,
    ModelConfig,
    ModelTeacher,
    PairRecommender,
    TeacherGroup,
    build_model,
)
from fastkd.training import Trainer, TrainingInterrupted
from tests.contracts.recommender_contract import RecommenderContract, shuffled
from tests.training.tiny_run import EVALUATION, StopAt, tiny_config, tiny_data

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


@pytest.mark.parametrize("name", ["hint", "de", "phr", "ftd", "htd", "freqd", "rrd"])
def test_only_users_at_work_are_encoded(name):
    data = tiny_data()
    student, method = student_of("sasrec", data).eval(), build_method(name, {}, Seeds(0))
    method.prepare(teacher_of(data), student, data.train, epochs=1)
    method.begin_epoch(0, student)
    batch, tables, encoded = RecommenderContract().batch(data.train), student.tables(), set()
    few = type(batch)(*(getattr(batch, f.name)[:3] for f in dataclasses.fields(batch)[:4]))
    encode = tables._encode
    tables._encode = lambda users: encoded.update(users.tolist()) or encode(users)
    method.loss(Step(few, tables, 0, 0, lambda *_: torch.zeros(())))
    # FreqD also reads the 5 nearest of each.
    assert 0 < len(encoded) <= (3 * 6 if name == "freqd" else 3) < data.train.num_users


def test_rrd_reads_no_more_slots_than_the_batch_has_users(monkeypatch):
    data = tiny_data()
    student, method = student_of("sasrec", data).eval(), build_method("rrd", {"top": 20, "ranked": 5}, Seeds(0))
    method.prepare(teacher_of(data), student, data.train, epochs=1)
    method.begin_epoch(0, student)
    batch = RecommenderContract().batch(data.train)
    count = len(batch.users.unique())
    whole = method.loss(Step(batch, student.tables(), 0, 0, lambda *_: torch.zeros(()))).kd
    # As on a GPU, where entities come in as many slots as there are rows.
    monkeypatch.setattr(rrd, "weighted_entities", lambda *a, **k: padded_entities(*a, factors=(1.0,), **k)[0])
    seen, encode = [], student.encode
    monkeypatch.setattr(student, "encode", lambda users: seen.append(len(users)) or encode(users))
    for runs, slots in ((None, 40), (count, count), (count + 3, count + 3)):
        given = dataclasses.replace(batch, runs=runs)
        found = method.loss(Step(given, student.tables(), 0, 0, lambda *_: torch.zeros(()))).kd
        torch.testing.assert_close(found, whole)
        assert seen.pop() == slots


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


@pytest.mark.parametrize(
    ("name", "teacher"),
    [
        *itertools.product(("lightgcn", "cdae", "sasrec", "simplex", "neumf", "deepfm"), ("bpr_mf", "sasrec")),
        *itertools.product(("lightgcn", "sasrec", "deepfm"), ("neumf",)),
    ],
)
def test_bd_trains_both_each_on_its_own_base_loss(name, teacher):
    data = tiny_data()
    student, method = student_of(name, data), build_method("bd", {"update": 1}, Seeds(0))
    before = {key: value.clone() for key, value in student.state_dict().items()}
    config = tiny_config(epochs=2, eval_every=1)
    given = teacher_of(data, teacher)
    Trainer(student, data, method, config, teacher=given, evaluation=EVALUATION).fit()
    learned = method.modules()["teacher"].state_dict()
    assert any(not torch.equal(value, learned[key]) for key, value in given.model.state_dict().items())
    assert any(not torch.equal(value, before[key]) for key, value in student.state_dict().items())
    step = Step(
        RecommenderContract().batch(data.train), student.tables(), 0, 0, lambda _, b, model: len(b) * model.probe
    )
    method._teacher.probe = torch.tensor(2.0)
    assert method.loss(step).parts["teacher_base"] == 80


class PairedMF(PairRecommender):
    """The scores of BPR-MF, as a model that scores pairs has them."""

    pair_width = 6

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.num_users, self.num_items, self.dim = model.num_users, model.num_items, model.dim
        self.asked = []

    def score(self, users, items):
        self.asked.append(torch.broadcast_shapes(users.shape, items.shape).numel())
        return (self.model.user_embedding[users] * self.model.item_embedding[items]).sum(-1)


def drawn(student, teacher, data, **options):
    method = build_method("bd", {"update": 2, "negatives": 2, "base_negatives": "drawn", **options}, Seeds(5))
    method.prepare(ModelTeacher(teacher), student, data.train, epochs=4)
    method.progress = lambda *state: method.__dict__.setdefault("told", []).append(state)
    method.begin_epoch(0, student)
    return method


@pytest.mark.parametrize("paired", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("ranks", [41 * 4, 1, 1 << 21])
def test_bd_draws_for_pairs_what_it_draws_for_vectors_of_the_same_scores(monkeypatch, paired, ranks):
    data = tiny_data()
    student, teacher = student_of("bpr_mf", data), student_of("bpr_mf", data, seed=9)
    wanted = drawn(student, teacher, data).state_dict()
    monkeypatch.setattr(_rank_draws, "BLOCK_RANKS", ranks)
    learner = PairedMF(student) if paired[0] else student
    method = drawn(learner, PairedMF(teacher) if paired[1] else teacher, data)
    for name, value in method.state_dict().items():
        assert np.array_equal(value, wanted[name]), name
    done = [count for _, count, _ in method.told]
    assert done == sorted(set(done))
    assert (done[0], done[-1]) == (0, 60)
    if paired[0]:  # every pair once for both directions, and never more at a time than a block's
        assert sum(learner.asked) == 30 * 41
        assert max(learner.asked) <= max(ranks, 41)


@pytest.mark.parametrize("name", PAIRS)
def test_bd_is_the_loss_of_the_scores_of_pairs(name):
    data = tiny_data()
    student, teacher = student_of(name, data), student_of("neumf", data, seed=9)
    method = drawn(student, teacher, data, weight=0.7, teacher_weight=0.3, student_temperature=2.0)
    student.eval()
    batch = RecommenderContract().batch(data.train)
    found = method.loss(Step(batch, student.tables(), 0, 0, lambda *_: torch.zeros(())))
    users, parts = batch.users.unsqueeze(1), {}
    for learner, giver, items, temperature in (
        (student, method._teacher, method._student_items, 5.0),
        (method._teacher, student, method._teacher_items, 2.0),
    ):
        ids = items[batch.entries].long()
        target = torch.sigmoid(giver.frozen_score(users, ids) / temperature)
        scores = learner.frozen_score(users, ids)
        name = "bd_to_student" if learner is student else "bd_to_teacher"
        parts[name] = torch.nn.functional.binary_cross_entropy_with_logits(scores, target, reduction="sum")
        torch.testing.assert_close(found.parts[name], parts[name])
    torch.testing.assert_close(found.kd.detach(), 0.7 * parts["bd_to_student"] + 0.3 * parts["bd_to_teacher"])
    found.kd.backward()
    for model in (student, method._teacher):
        assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0
    assert method.outlook(ModelTeacher(teacher), student, data.train, device="cpu") is None


@pytest.mark.parametrize("name", PAIRS)
def test_bd_of_pairs_stopped_within_a_window_goes_on_as_never_stopped(tmp_path, name):
    data = tiny_data()

    def trainer(folder, *callbacks):
        method = build_method("bd", {"update": 2}, Seeds(0))
        config = tiny_config(epochs=3, eval_every=1)
        options = {"teacher": teacher_of(data, "neumf"), "evaluation": EVALUATION, "folder": folder}
        return Trainer(student_of(name, data), data, method, config, callbacks=callbacks, **options)

    whole = trainer(tmp_path / "whole")
    whole.fit()
    with pytest.raises(TrainingInterrupted):
        trainer(tmp_path / "cut", StopAt(9)).fit()
    resumed = trainer(tmp_path / "cut")
    resumed.fit(resume="must")
    for key, value in whole.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[key]), key


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("method", ["de", "dcd"])
def test_methods_that_need_vectors_refuse_students_without(name, method):
    data = tiny_data()
    student = student_of(name, data)
    made = build_method(method, {}, Seeds(0))
    trainer = Trainer(student, data, made, tiny_config(), teacher=teacher_of(data), evaluation=EVALUATION)
    with pytest.raises(ConfigError, match="scores pairs and has no user and item vectors"):
        trainer.fit()
