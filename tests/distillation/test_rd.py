from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds, ops
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method
from fastkd.distillation.rd import hybrid_weights, position_weights
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids

RANKS = torch.tensor([[40, 3, 1, 200, 7]])


def weights_of_ranks(**options):
    position = position_weights(torch.ones(1, 5, dtype=torch.bool), 2.0, torch.float64)
    return position, hybrid_weights(position, RANKS, 0.01, **options)


def test_published_weights_and_loss():
    # The values of the method's specification, computed from the paper's formulas.
    position, hybrid = weights_of_ranks(renormalize=True)
    assert position[0].tolist() == pytest.approx([0.428656, 0.259993, 0.157694, 0.095646, 0.058012], abs=1e-6)
    assert hybrid[0].tolist() == pytest.approx([0.624576, 0.010201, 0, 0.360672, 0.004552], abs=1e-6)
    scores = torch.tensor([[1.5, -0.5, 0.2, -2.0, 0.0]], dtype=torch.float64)
    loss = ops.weighted_bce(scores, torch.ones_like(scores), weights=hybrid)
    assert loss.item() == pytest.approx(0.906011910067, abs=1e-12)


def test_weights_without_renormalisation_are_the_products():
    position, plain = weights_of_ranks(renormalize=False)
    pairs = zip(position[0].tolist(), RANKS[0].tolist(), strict=True)
    wanted = [w * math.tanh(max(0.01 * (rank - r), 0)) for r, (w, rank) in enumerate(pairs, 1)]
    assert plain[0].tolist() == pytest.approx(wanted, rel=1e-12)


def test_a_student_who_ranks_everything_well_has_no_weights():
    position = position_weights(torch.ones(2, 3, dtype=torch.bool), 1.0)
    weights = hybrid_weights(position, torch.tensor([[1, 2, 3], [1, 1, 1]]), 0.1, renormalize=True)
    assert weights.tolist() == [[0.0] * 3] * 2


def test_places_without_an_item_have_no_weight():
    listed = torch.tensor([[True, True, False], [False, False, False]])
    weights = position_weights(listed, 1.0)
    assert weights[0].tolist() == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])
    assert weights[1].tolist() == [0.0] * 3


class TestRD(MethodContract):
    name = "rd"
    options: ClassVar = {"listed": 6, "samples": 30, "start_epoch": 0, "mu": 0.5, "weight": 0.1}
    sources = ("model", "embeddings", "lists")

    @pytest.mark.parametrize("part", ["position", "hybrid"])
    def test_golden_numbers(self, part, monkeypatch):
        case = golden("rd")
        options = {"weight": case.weight, "mu": case.mu, "position_temperature": case.lam, "samples": 5, "listed": 4}
        train = Interactions.empty(3, 8)
        method = self.world(train=train, start_epoch=0 if part == "hybrid" else 1, **options).method
        method._ids = ids(case.lists)
        drawn = torch.tensor(case.sampled)
        monkeypatch.setattr(ops, "sample_unobserved", lambda train, users, n, **_: drawn[users])
        for name, value in getattr(case, part).items():
            setattr(case, name, value)
        compare(method, case)

    def test_estimated_ranks_are_those_of_the_sample(self):
        world = self.started()
        users = torch.arange(29)
        tables = world.student.frozen_tables()
        listed = world.method._ids[users].long()
        scores = (tables.users @ tables.items.T).gather(1, listed)
        found = world.method._ranks(users, tables.users, tables, scores, 3)
        seed = world.method._seed
        drawn = ops.sample_unobserved(world.train, users, 30, seed=seed, epoch=3)
        others = (tables.users @ tables.items.T).gather(1, drawn)
        above = (others.unsqueeze(1) > scores.unsqueeze(2)).sum(2)
        assert torch.equal(found, 46 * above // 30 + 1)
        exact = ops.rank_of(tables.users, tables.items, listed, exclude=world.train)
        many = self.world(samples=20_000).method._ranks(users, tables.users, tables, scores, 0)
        # Ranks estimated over N - 1 items stretch the 41 a user has not touched; a few draws tie with the item.
        assert ((many - 1) / 46 - (exact - 1) / 41).abs().max() < 0.05

    def test_samples_kept_for_an_epoch_are_those_drawn_at_the_step(self):
        # On the CPU the epoch's samples are kept, on a device they are drawn at the step.
        world = self.started()
        batch = world.batch(np.arange(50))
        kept = world.loss(batch, epoch=0).kd
        assert world.method._drawn[1].shape == (29, 30)
        world.method._drawn = None
        assert torch.equal(world.loss(batch, epoch=0).kd, kept)

    def test_positions_alone_before_the_start(self):
        late, now = self.started(start_epoch=3), self.started()
        batch = late.batch(np.arange(50))
        assert late.loss(batch, epoch=2).kd.item() == late.loss(batch, epoch=0).kd.item()
        assert late.loss(batch, epoch=3).kd.item() == now.loss(batch, epoch=3).kd.item()
        assert late.loss(batch, epoch=2).kd.item() != now.loss(batch, epoch=2).kd.item()

    def test_lists_are_outside_the_positives(self):
        world = self.started()
        assert torch.equal(world.method._ids.long(), world.teacher.lists(6, world.train).ids)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"listed": 0}, "listed must be at least 1, got 0"),
            ({"samples": 0}, "samples must be at least 1, got 0"),
            ({"mu": 0.0}, r"mu must be a positive number, got 0\.0"),
            ({"start_epoch": -1}, "start_epoch must be at least 0, got -1"),
            ({"ranks": "guessed"}, "ranks: 'guessed' is not allowed"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("rd", options, Seeds(0))


class TestExactRanks(MethodContract):
    name = "rd"
    options: ClassVar = {"listed": 6, "ranks": "exact", "start_epoch": 0, "mu": 0.5, "weight": 0.1, "update": 2}
    sources = ("model", "embeddings", "lists")
    draws = False

    def test_ranks_are_the_students_over_untouched_items(self):
        world = self.started()
        tables = world.student.frozen_tables()
        scores = tables.users @ tables.items.T
        for user in range(29):
            free = np.setdiff1d(np.arange(47), world.train.row(user))
            order = free[np.argsort(-scores[user, free].numpy(), kind="stable")].tolist()
            wanted = [order.index(i) + 1 for i in world.method._ids[user].tolist()]
            assert world.method._window["ranks"][user].tolist() == wanted

    def test_ranks_stay_for_a_window_and_then_follow_the_student(self):
        world = self.started()
        first = world.method._window["ranks"].clone()
        with torch.no_grad():
            world.student.user_embedding.neg_()
        world.method.begin_epoch(1, world.student)
        assert torch.equal(world.method._window["ranks"], first)
        world.method.begin_epoch(2, world.student)
        assert not torch.equal(world.method._window["ranks"], first)

    def test_without_renormalisation_the_products_weigh(self):
        world = self.started(renormalize=False, mu=0.01)
        batch = world.batch(np.arange(6))
        user = int(batch.users[0])
        assert (batch.users == user).all()
        tables, places = world.student.frozen_tables(), torch.arange(1, 7)
        scores = tables.items[world.method._ids[user].long()] @ tables.users[user]
        gaps = (world.method._window["ranks"][user] - places).clamp(min=0)
        weights = torch.softmax(-places.float(), 0) * torch.tanh(0.01 * gaps)
        wanted = -0.1 * 6 * (weights * torch.nn.functional.logsigmoid(scores)).sum()
        assert world.loss(batch).kd.item() == pytest.approx(wanted.item(), rel=1e-5)

    def test_nothing_is_ranked_before_the_start(self):
        world = self.world(start_epoch=2)
        world.method.begin_epoch(1, world.student)
        assert world.method.state_dict() == {}
        world.method.begin_epoch(2, world.student)
        assert world.method.state_dict()["start"].tolist() == [2]
