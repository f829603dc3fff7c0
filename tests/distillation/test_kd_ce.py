from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds, ops
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.distillation import build_method, refresh
from fastkd.models import Tables
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids


class TestKDCE(MethodContract):
    name = "kd_ce"
    options: ClassVar = {"listed": 6, "temperature": 1.5, "weight": 0.1}
    sources = ("model", "embeddings", "lists")

    draws = False
    falls_to = 0.995

    def test_golden_numbers(self):
        case = golden("kd_ce")
        method = self.world(weight=case.weight, temperature=case.temperature).method
        method._ids, method._scores = ids(case.lists), torch.tensor(case.teacher_scores, dtype=torch.float64)
        compare(method, case)

    def test_lists_are_the_teachers_best_with_positives_in(self):
        world = self.world()
        best = world.teacher.lists(6, None)
        assert torch.equal(world.method._ids.long(), best.ids)
        assert torch.equal(world.method._scores, best.scores)
        assert world.train.contains(np.repeat(np.arange(29), 6), best.ids.numpy().ravel()).any()
        out = self.world(exclude_seen=True).method._ids.numpy().ravel()
        assert not world.train.contains(np.repeat(np.arange(29), 6), out).any()

    def test_one_item_leaves_nothing_to_compare(self):
        world = self.started(listed=1)
        kd = world.loss(world.batch(np.arange(20))).kd
        kd.backward()
        assert kd.item() == 0
        assert all(p.grad.abs().sum() == 0 for p in world.student.parameters())

    def test_a_list_without_items_adds_nothing(self):
        world = self.started()
        world.method._ids.fill_(-1)
        kd = world.loss(world.batch(np.arange(20))).kd
        kd.backward()
        assert kd.item() == 0
        assert all(p.grad.abs().sum() == 0 for p in world.student.parameters())

    def test_rows_count_as_often_as_they_come(self):
        world = self.started()
        batch = world.batch(np.arange(6))
        assert len(set(batch.users.tolist())) == 1
        one = world.loss(world.batch(np.arange(1))).kd
        assert world.loss(batch).kd.item() == pytest.approx(6 * one.item(), rel=1e-6)
        mean = self.started(reduction="mean")
        assert mean.loss(batch).kd.item() == pytest.approx(one.item(), rel=1e-6)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"listed": 0}, "listed must be at least 1, got 0"),
            ({"temperature": 0.0}, r"temperature must be a positive number, got 0\.0"),
            ({"guide": "nobody"}, "guide: 'nobody' is not allowed"),
            ({"update": 0}, "update must be at least 1, got 0"),
            ({"guide": "catalogue", "exclude_seen": True}, "guide=catalogue has no list to leave items out of"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("kd_ce", options, Seeds(0))


class TestStudentGuide(MethodContract):
    name = "kd_ce"
    options: ClassVar = {"listed": 6, "temperature": 1.5, "weight": 0.1, "guide": "student", "update": 2}
    sources = ("model", "embeddings")

    draws = False
    falls_to = 0.995

    def test_lists_are_the_students_and_scores_the_teachers(self, monkeypatch):
        monkeypatch.setattr(refresh, "USER_BLOCK", 7)
        world = self.started()
        student, teacher = world.student.frozen_tables(), world.teacher.tables()
        best = (student.users @ student.items.T).topk(6).indices
        assert torch.equal(world.method._ids.long(), best)
        wanted = (teacher.users @ teacher.items.T).gather(1, best)
        torch.testing.assert_close(world.method._scores, wanted)

    def test_the_students_lists_leave_out_training_items_too(self):
        world = self.started(exclude_seen=True)
        student = world.student.frozen_tables()
        best = ops.rank_topk(student.users, student.items, 6, exclude=world.train).ids
        assert torch.equal(world.method._ids.long(), best)

    def test_lists_stay_for_a_window_and_then_follow_the_student(self):
        world = self.started()
        first = world.method._ids.clone()
        with torch.no_grad():
            world.student.user_embedding.neg_()
        world.method.begin_epoch(1, world.student)
        assert torch.equal(world.method._ids, first)
        world.method.begin_epoch(2, world.student)
        assert not torch.equal(world.method._ids, first)

    def test_damaged_state_is_refused(self):
        world = self.started()
        state = world.method.state_dict()
        for change in ({"ids": state["ids"][:, :3]}, {"more": np.zeros(2)}):
            with pytest.raises(CheckpointError, match=r"kd_ce state (ids|more): expected"):
                world.method.load_state_dict({**state, **change})
        with pytest.raises(CheckpointError, match=r"start: expected \[1\], got nothing"):
            world.method.load_state_dict({"ids": state["ids"]})


class TestCatalogue(MethodContract):
    name = "kd_ce"
    options: ClassVar = {"temperature": 1.5, "weight": 0.1, "guide": "catalogue"}
    sources = ("model", "embeddings")

    draws = False
    falls_to = 0.995

    def test_golden_numbers(self):
        case = golden("kd_ce")
        method = self.world(weight=case.weight, temperature=case.temperature).method
        tables = (torch.tensor(t, dtype=torch.float64) for t in (case.teacher_users, case.teacher_items))
        method._teacher = Tables(*tables)
        for name, value in case.catalogue.items():
            setattr(case, name, value)
        compare(method, case)

    def test_row_sparse_gradients_are_the_dense_ones(self):
        with pytest.raises(ConfigError, match="row-wise optimisers gain nothing"):
            super().test_row_sparse_gradients_are_the_dense_ones()
