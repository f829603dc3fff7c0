from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.distillation import PRMKD, PRMKDConfig, Shape, build_method, refresh
from fastkd.distillation._mixture import mixture
from fastkd.models import (
    EmbeddingTeacher,
    ListTeacher,
    ModelConfig,
    ModelTeacher,
    StoredTeacher,
    TeacherGroup,
    TeacherTrajectory,
    build_model,
    save_tables,
)
from tests.contracts.interactions import random_interactions
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids


class _Contract(MethodContract):
    name = "prm_kd"
    sources = ("model", "embeddings", "lists")

    def test_every_source_that_can_teach_teaches_the_same(self):
        """But for the last bit: a list holds the scores of a ranking, vectors are multiplied anew."""
        worlds = [self.world(source=source) for source in self.sources]
        first, *others = (world.fit(world.optimizer(), range(2)) for world in worlds)
        assert all(losses == pytest.approx(first, rel=1e-6) for losses in others)


class TestPRMKD(_Contract):
    options: ClassVar = {"drawn": 9, "positives": 2, "weight": 0.1}

    @pytest.mark.parametrize("name", ["scores", "standardised", "average"])
    def test_golden_numbers(self, name):
        given = golden("prm_kd")
        case = SimpleNamespace(**getattr(given, name))
        method = self.world(weight=given.weight, temperature=given.temperature).method
        method._ids = ids(given.ids)
        scores = torch.tensor(given.teachers, dtype=torch.float64)
        scores = scores.masked_fill(method._ids.unsqueeze(0) < 0, -torch.inf)
        mixed = mixture(
            scores,
            2,
            temperatures=given.temperatures,
            standardise=case.standardise,
            confidence=case.confidence,
            consistency=case.consistency,
            priors=case.priors,
        )
        method._targets, method._entropy = mixed.log_shares, mixed.entropy
        compare(method, case)
        for user in set(case.batch):
            np.testing.assert_allclose(mixed.weights[user].numpy(), case.weights[user], rtol=1e-12)

    def test_candidates_are_positives_and_items_not_taken_each_once(self):
        world = self.started(drawn=12)
        for user in range(29):
            taken = set(world.train.row(user).tolist())
            row = world.method._ids[user].tolist()
            assert len(set(row)) == 14
            assert set(row[:2]) <= taken
            assert not set(row[2:]) & taken
        first = world.method._ids.clone()
        world.method.begin_epoch(1, world.student)
        for drawn in (slice(2), slice(2, None)):
            assert not torch.equal(world.method._ids[:, drawn], first[:, drawn])

    def test_popular_items_are_drawn_more_often(self):
        # Item 0 has 20 users, the others one each.
        users = [*range(20), *range(20, 40)]
        items = [0] * 20 + list(range(1, 21))
        train = Interactions.from_pairs(users, items, num_users=40, num_items=21)
        world, found = self.world(train=train, drawn=1), []
        for epoch in range(40):
            world.method.begin_epoch(epoch, world.student)
            found.append((world.method._ids[20:, 2] == 0).float().mean().item())
        # 800 draws: a standard deviation of 0.018.
        assert np.mean(found) == pytest.approx(20 / 39, abs=0.07)

    def test_draws_stay_for_a_window(self):
        world = self.started(update=3)
        first = world.method._ids.clone()
        world.method.begin_epoch(2, world.student)
        assert torch.equal(world.method._ids, first)
        later = self.world(update=3)
        later.method.begin_epoch(4, later.student)
        world.method.begin_epoch(3, world.student)
        assert torch.equal(later.method._ids, world.method._ids)
        assert not torch.equal(first, world.method._ids)

    def test_nothing_depends_on_blocks(self, monkeypatch):
        whole = self.started()
        monkeypatch.setattr(refresh, "USER_BLOCK", 7)
        cut = self.started()
        assert torch.equal(whole.method._ids, cut.method._ids)
        torch.testing.assert_close(whole.method._targets, cut.method._targets)

    def test_one_teacher_is_heard_alone_and_the_loss_is_its_divergence(self):
        world = self.started(standardise=False, temperature=2.0)
        method = world.method
        assert torch.equal(method.teacher_weights, torch.ones(29, 1))
        teacher, student = world.teacher.tables(), world.student.frozen_tables()
        batch = world.batch(np.arange(11))
        total = 0.0
        for user in batch.users.tolist():
            row = method._ids[user].long()
            p = (teacher.users[user] @ teacher.items[row].T).double().softmax(0)
            log_s = ((student.users[user] @ student.items[row].T).double() / 2).log_softmax(0)
            total += 4 * float((p * (p.log() - log_s)).sum())
        assert world.loss(batch).parts["prm_kd"].item() == pytest.approx(total, rel=1e-5)
        mean = self.started(standardise=False, temperature=2.0, reduction="mean")
        assert mean.loss(batch).parts["prm_kd"].item() == pytest.approx(total / 11, rel=1e-5)

    def test_weights_before_there_are_any(self):
        with pytest.raises(ValueError, match="prm_kd has no weights yet"):
            _ = self.world().method.teacher_weights


class TestLists(_Contract):
    options: ClassVar = {"listed": 6, "drawn": 3, "positives": 2, "weight": 0.1}

    def test_candidates_are_the_teachers_list_and_others(self):
        world = self.started()
        ids = world.method._ids.long()
        assert torch.equal(ids[:, 2:8], world.teacher.lists(6, world.train).ids)
        assert all(len(set(row)) == 11 for row in ids.tolist())
        assert not world.train.contains(np.repeat(np.arange(29), 3), ids[:, 8:].flatten().numpy()).any()
        alone = self.started(drawn=0).method._ids
        assert torch.equal(alone.long(), ids[:, :8])


def several(train, tmp_path):
    """A live model of pairs, one of sequences' kind, vectors in a file, and short lists."""
    pairs = ModelTeacher(build_model(ModelConfig(name="deepfm", dim=4, options={"hidden": [8]}), train, Seeds(1)))
    live = ModelTeacher(build_model(ModelConfig(name="lightgcn", dim=8, init_std=0.6), train, Seeds(7)))
    save_tables(tmp_path / "t.safetensors", live.tables())
    stored = StoredTeacher(tmp_path / "t.safetensors", num_users=train.num_users, num_items=train.num_items)
    lists = live.lists(20, None)
    return [pairs, TeacherTrajectory([live, stored]), ListTeacher(lists.ids, lists.scores, train.num_items), live]


@pytest.mark.parametrize("listed", [0, 5])
def test_teachers_of_all_kinds_at_once(tmp_path, listed):
    train = random_interactions(29, 47, 6)
    members = several(train, tmp_path)
    members[2].short = "pad"
    group = TeacherGroup(members)
    world = TestPRMKD().started(train=train, teacher=group, listed=listed)
    method = world.method
    weights = method.teacher_weights
    torch.testing.assert_close(weights.sum(1), torch.ones(29))
    assert torch.equal(weights[:, 1], weights[:, 3])
    assert (weights > 0).all()
    for user in (0, 13):
        row = method._ids[user]
        scores = [member.scores(torch.tensor([user]), row.unsqueeze(0)) for member in members]
        assert torch.equal(scores[1], scores[3])
        inside = torch.isin(row.long(), members[2]._ids[user])
        torch.testing.assert_close(scores[2][0, inside], scores[3][0, inside])
        assert (scores[2][0, ~inside] == members[2]._scores[user, -1]).all()
        mixed = mixture(torch.stack(scores), 2, standardise=True)
        torch.testing.assert_close(mixed.log_shares[0].float(), method._targets[user])
    assert np.isfinite(world.fit(world.optimizer(), range(2))).all()


def test_every_option_of_the_mixture_reaches_it():
    train = random_interactions(29, 47, 6)
    models = (build_model(ModelConfig(dim=8, init_std=0.6), train, Seeds(seed)) for seed in (7, 8))
    group = TeacherGroup([ModelTeacher(model) for model in models])

    def weights(**options):
        return TestPRMKD().started(train=train, teacher=group, **options).method.teacher_weights

    even = torch.full((29, 2), 0.5)
    assert torch.equal(weights(confidence=0.0, consistency=0.0), even)
    torch.testing.assert_close(weights(confidence=0.0, consistency=0.0, priors=[3.0, 1.0])[:, 1], even[:, 0] / 2)
    usual = weights()
    for name, value in (("confidence", 2.0), ("standardise", False), ("teacher_temperatures", [1.0, 3.0])):
        assert not torch.allclose(weights(**{name: value}), usual), name
    apart = {"confidence": 0.0, "priors": [3.0, 1.0]}
    assert not torch.allclose(weights(**apart, consistency=0.0), weights(**apart))


def test_lists_are_remarked_on(tmp_path):
    train = random_interactions(29, 47, 6)
    group = TeacherGroup(several(train, tmp_path))
    (said,) = build_method("prm_kd", {}, Seeds(0)).remarks(group, train)
    assert "teacher 3 of 4 is one of lists" in said
    assert build_method("prm_kd", {"confidence": 0}, Seeds(0)).remarks(group, train) == ()
    assert build_method("prm_kd", {}, Seeds(0)).remarks(group.members[2], train) == ()


def test_the_sure_and_the_agreeing_are_heard_more():
    sure, unsure = [4.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]
    astray = [0.0, 0.0, 0.0, 4.0]
    weights = mixture(torch.tensor([[sure], [unsure], [astray]]), 1).weights[0]
    assert weights[0] > weights[1] > weights[2]
    alike = torch.tensor([[[0.0, 3.0, 0.0, 0.0]], [[0.0, 3.0, 0.0, 0.0]], [[0.0, 0.0, 3.0, 0.0]]])
    weights = mixture(alike, 1, confidence=0.0).weights[0]
    assert weights[0] == weights[1] > weights[2]
    assert mixture(alike, 1, confidence=0.0, consistency=0.0).weights[0].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e30])
@pytest.mark.parametrize("standardise", [False, True])
def test_scores_of_any_size_and_empty_rows(scale, standardise):
    scores = scale * torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    scores[:, 1, 2:] = -torch.inf
    scores[:, 2] = -torch.inf
    scores[1, 3] = scale  # a teacher that says the same of all
    mixed = mixture(scores, 2, standardise=standardise)
    known = scores[0] > -torch.inf
    assert torch.isfinite(mixed.entropy).all()
    torch.testing.assert_close(mixed.weights.sum(1), torch.ones(5, dtype=torch.float64))
    shares = mixed.log_shares.exp().sum(1)
    torch.testing.assert_close(shares, known.any(1).double())
    assert (mixed.log_shares[~known] == -torch.inf).all()
    assert mixed.entropy[2] == 0


def test_standardised_scores_do_not_depend_on_a_teachers_scale():
    scores = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = scores * torch.tensor([1e-3, 50.0]).reshape(2, 1, 1) + torch.tensor([3.0, -100.0]).reshape(2, 1, 1)
    one, two = (mixture(s, 1, standardise=True) for s in (scores, other))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b)


def test_a_teacher_without_scores_is_refused():
    class Ranks(EmbeddingTeacher):
        def scores(self, users, ids):
            return super(EmbeddingTeacher.__base__, self).scores(users, ids)

    tables = TestPRMKD().world().teacher.tables()
    teacher = Ranks(tables.users, tables.items)
    with pytest.raises(TeacherError, match="Ranks ranks, but gives no scores of chosen items"):
        TestPRMKD().started(teacher=teacher)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"listed": -1}, "listed must be at least 0, got -1"),
        ({"drawn": 0}, "listed=0 and drawn=0 leave no candidates"),
        ({"positives": 0}, "positives must be at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be a positive number, got 0\.0"),
        ({"teacher_temperatures": [1.0, -2.0]}, r"teacher_temperatures\[1\] must be a positive number, got -2\.0"),
        ({"confidence": -1.0}, r"confidence must be a number of at least 0, got -1\.0"),
        ({"priors": [1.0, -2.0]}, r"priors\[1\] must be a number of at least 0, got -2\.0"),
        ({"priors": [0.0, 0.0]}, r"priors are \[0\.0, 0\.0\]: one at least must be above 0"),
        ({"update": 0}, "update must be at least 1, got 0"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        build_method("prm_kd", options, Seeds(0))


@pytest.mark.parametrize("option", ["teacher_temperatures", "priors"])
def test_values_for_another_number_of_teachers(option):
    with pytest.raises(ConfigError, match=rf"{option} are \[1\.0, 2\.0\]: give one for each of the 1 teacher"):
        TestPRMKD().world(**{option: [1.0, 2.0]})


def test_a_teacher_of_no_worth_is_not_heard():
    scores = torch.randn(3, 4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    without, two = mixture(scores, 1, priors=(2.0, 0.0, 1.0)), mixture(scores[[0, 2]], 1, priors=(4.0, 2.0))
    assert (without.weights[:, 1] == 0).all()
    torch.testing.assert_close(without.weights[:, [0, 2]], two.weights)
    torch.testing.assert_close(without.log_shares, two.log_shares)
    torch.testing.assert_close(without.entropy, two.entropy)


def test_cost_counts_what_a_refresh_scores():
    at = Shape(users=1000, items=5000, dim=8, teacher_dim=16, batch=64, interactions=9000)
    drawn, lists = (PRMKD.cost(PRMKDConfig(listed=n, drawn=20 - n, update=2), at) for n in (0, 20))
    assert drawn.refresh.flops == 2 * 1000 * 21 * 16
    assert drawn.prepare.flops == 0
    assert lists.prepare.flops == 2 * 1000 * 5000 * 16
    assert lists.memory - drawn.memory == 4 * 1000 * 20
    assert drawn.every == 2
