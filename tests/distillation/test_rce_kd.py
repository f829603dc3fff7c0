from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from fastkd import Interactions, Seeds, ops
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method, refresh
from fastkd.distillation.rce_kd import teachers_ahead
from fastkd.models import EmbeddingTeacher
from fastkd.models.bpr_mf import BPRMF
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden


def sines(rows, columns, f, p=0.0):
    i, j = np.arange(rows)[:, None], np.arange(columns)
    return torch.from_numpy(np.sin(f * (1 + i) * (2 + j) + p))


def begun(student, teacher, monkeypatch, positions, **options):
    """A method over given tables (users, items), its first epoch begun with a draw that is known."""
    drawn = torch.tensor([positions])
    monkeypatch.setattr(ops, "sample_weighted", lambda users, *_, **__: drawn.expand(len(users), -1))
    config = {"listed": 3, "drawn": 3, "top": 6, "temperature": 1.5, "beta": 2.0, **options}
    method = build_method("rce_kd", config, Seeds(0))
    model = BPRMF(*(nn.Parameter(t.float()) for t in student))
    train = Interactions.empty(model.num_users, model.num_items)
    method.prepare(EmbeddingTeacher(*teacher), model, train, epochs=3)
    method.begin_epoch(0, model)
    return method


def test_published_lists_and_row_losses(monkeypatch):
    # The values of the method's specification; scores as vectors with a dimension for each item.
    student, teacher, items = 2 * sines(2, 12, 0.61), 3 * sines(2, 12, 0.23, 0.4), torch.eye(12).double()
    method = begun((student, items), (teacher, items), monkeypatch, [0, 2, 4])
    assert method._wanted.tolist() == [[3, 4, 2], [1, 0, 2]]
    assert method._best.tolist() == [[11, 1, 0], [10, 4, 5]]
    assert method._mixed.tolist() == [[11, 0, 2, 3, 4, -1], [10, 5, 0, 1, -1, 2]]
    assert method._share.tolist() == pytest.approx([0.513417119] * 2, abs=1e-7)
    parts = [
        ops.listnet_from_embeddings(student, items, listed, scores.double(), temperature=1.5)
        for listed, scores in ((method._best, method._best_scores), (method._mixed, method._mixed_scores))
    ]
    share = math.exp(-2 / 3)
    rows = (1 - share) * parts[0] + share * parts[1]
    assert rows.tolist() == pytest.approx([1.61766994198, 1.77212969018], abs=1e-6)


def test_golden_lists_loss_and_gradients(monkeypatch):
    case = golden("rce_kd")
    student, teacher = (
        tuple(torch.tensor(t, dtype=torch.float64) for t in pair)
        for pair in ((case.users, case.items), (case.teacher_users, case.teacher_items))
    )
    at = [r - 1 for r in case.positions]
    method = begun(student, teacher, monkeypatch, at, temperature=case.temperature, beta=case.beta, weight=case.weight)
    for user, wanted in enumerate(case.lists):
        assert method._best[user].tolist() == wanted["best"]
        assert [i for i in method._mixed[user].tolist() if i >= 0] == wanted["mixed"]
    scores = teacher[0] @ teacher[1].T
    for ids, name in ((method._best, "_best_scores"), (method._mixed, "_mixed_scores")):
        exact = scores.gather(1, ids.long().clamp(min=0))
        torch.testing.assert_close(getattr(method, name)[ids >= 0].double(), exact[ids >= 0], rtol=1e-6, atol=1e-6)
        setattr(method, name, exact)
    method._share = torch.tensor([row["share"] for row in case.lists], dtype=torch.float64)
    compare(method, case)


def test_how_many_of_the_teachers_items_are_ahead():
    ranks = torch.tensor([[7, 3, 5], [1, 1, 0], [7, 7, 7]])
    assert teachers_ahead(ranks, 6).tolist() == [[2, 2, 2, 1, 1, 0], [2, 0, 0, 0, 0, 0], [0] * 6]
    many = torch.arange(1, 81).unsqueeze(0)
    assert teachers_ahead(many, 100)[0, [0, 29, 30, 31, 79, 80]].tolist() == [50, 50, 50, 49, 1, 0]


class TestRCEKD(MethodContract):
    name = "rce_kd"
    options: ClassVar = {"listed": 5, "drawn": 4, "top": 12, "weight": 0.1, "update": 2}
    sources = ("model", "embeddings")
    falls_to = 0.99

    def test_lists_are_what_they_should_be(self, monkeypatch):
        monkeypatch.setattr(refresh, "USER_BLOCK", 7)
        world = self.started()
        method, student, teacher = world.method, world.student.frozen_tables(), world.teacher.tables()
        for user in range(29):
            mine = (student.items @ student.users[user]).topk(12).indices.tolist()
            wanted = (teacher.items @ teacher.users[user]).topk(5).indices.tolist()
            drawn, added = method._mixed[user, :4].tolist(), method._mixed[user, 4:].tolist()
            positions = [mine.index(i) for i in drawn]
            assert positions == sorted(set(positions))
            assert method._best[user].tolist() == mine[:5]
            assert added == [i if i not in drawn and i not in mine[:5] else -1 for i in wanted]
            share = math.exp(-3 * len(set(wanted) & set(drawn)) / 5)
            assert method._share[user].item() == pytest.approx(share)

    @pytest.mark.parametrize("draw", ["overlap", "rank_decay"])
    def test_the_head_of_the_students_list_is_drawn_more_often(self, draw):
        world = self.world(draw=draw, sharpness=0.5 if draw == "overlap" else 3.0, drawn=2, update=1)
        student = world.student.frozen_tables()
        mine = ops.rank_topk(student.users, student.items, 12).ids
        found = np.zeros(12)
        for epoch in range(30):
            world.method.begin_epoch(epoch, world.student)
            drawn = world.method._mixed[:, :2].long()
            found += (mine.unsqueeze(1) == drawn.unsqueeze(2)).sum((0, 1)).numpy()
        assert found.sum() == 29 * 2 * 30
        assert found[:3].sum() > 1.5 * found[-3:].sum()

    def test_a_sharp_draw_takes_what_most_of_the_teachers_items_are_behind(self):
        sharp, flat = (self.started(sharpness=t).method for t in (0.01, 1e3))
        student = self.world().student.frozen_tables()
        mine = ops.rank_topk(student.users, student.items, 12).ids
        ahead = teachers_ahead(ops.ranks_within(sharp._wanted.long(), mine), 12)
        in_order = []
        for method in (sharp, flat):
            drawn = (mine.unsqueeze(2) == method._mixed[:, None, :4]).any(2)
            least = ahead.masked_fill(~drawn, 99).min(1).values
            in_order.append((least >= ahead.masked_fill(drawn, -1).max(1).values).float().mean().item())
        assert in_order[0] == 1.0 > in_order[1] + 0.2

    def test_lists_stay_for_a_window_and_draws_are_new_in_the_next(self):
        world = self.started()
        first = {name: getattr(world.method, name).clone() for name in ("_best", "_mixed")}
        user = world.student.user_embedding.detach().clone()
        with torch.no_grad():
            world.student.user_embedding.neg_()
        world.method.begin_epoch(1, world.student)
        assert torch.equal(world.method._best, first["_best"])
        assert torch.equal(world.method._mixed, first["_mixed"])
        with torch.no_grad():
            world.student.user_embedding.copy_(user)
        world.method.begin_epoch(2, world.student)
        assert torch.equal(world.method._best, first["_best"]), "of the same student"
        assert not torch.equal(world.method._mixed, first["_mixed"])

    def test_without_beta_only_the_draw_counts(self):
        world = self.started(beta=0.0)
        parts = world.loss(world.batch(np.arange(20))).parts
        assert parts["rce_kd_best"].item() == 0
        assert parts["rce_kd_mixed"].item() > 0

    def test_a_catalogue_shorter_than_the_lists(self):
        train = Interactions.from_pairs([0, 1, 2], [0, 1, 2], num_users=3, num_items=3)
        world = self.world(train=train)
        assert np.isfinite(world.fit(world.optimizer(), range(2))).all()
        assert (world.method._best >= 0).sum(1).tolist() == [3] * 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"listed": 300}, "listed=300 items cannot come from a list of top=200"),
            ({"drawn": 201}, "drawn=201 items cannot come from a list of top=200"),
            ({"beta": -1.0}, r"beta must be a number of at least 0, got -1\.0"),
            ({"draw": "any"}, "draw: 'any' is not allowed"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("rce_kd", options, Seeds(0))
