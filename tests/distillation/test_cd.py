from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds, ops
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.distillation import build_method, cd, refresh
from fastkd.models import ListTeacher
from tests.contracts.interactions import random_interactions
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids

OPTIONS = {"drawn": 5, "top": 12, "weight": 0.2, "temperature": 1.0}


class Guided(MethodContract):
    """What holds for every guide."""

    name = "cd"

    def test_drawn_items_are_untouched_and_scored_by_the_teacher(self, monkeypatch):
        monkeypatch.setattr(refresh, "USER_BLOCK", 7)
        world = self.started()
        drawn = world.method._ids.long()
        users = np.repeat(np.arange(29), drawn.shape[1])
        assert not world.train.contains(users, drawn.numpy().ravel()).any()
        tables = world.teacher.tables()
        torch.testing.assert_close(world.method._scores, (tables.users @ tables.items.T).gather(1, drawn))

    def test_draws_do_not_depend_on_blocks(self, monkeypatch):
        whole = self.started()
        monkeypatch.setattr(refresh, "USER_BLOCK", 7)
        parts = self.started()
        assert torch.equal(whole.method._ids, parts.method._ids)
        assert torch.equal(whole.method._scores, parts.method._scores)


class TestTeacherGuided(Guided):
    options: ClassVar = {**OPTIONS, "guide": "teacher"}
    sources = ("model", "embeddings", "lists")

    def test_golden_numbers(self):
        case = golden("cd")
        method = self.world(weight=case.weight, temperature=case.temperature, shift=case.shift).method
        method._ids, method._scores = ids(case.drawn), torch.tensor(case.teacher_scores, dtype=torch.float64)
        compare(method, case)

    @pytest.mark.parametrize(
        ("law", "share"),
        [
            ("linear", lambda r: 2 * (12 - r) + 1),
            ("exponential", lambda r: np.exp(-5.0 * r / 12)),
            ("uniform", np.ones_like),
        ],
    )
    def test_ranks_follow_the_law(self, law, share):
        world = self.world(drawn=40, law=law, gamma=5.0)
        best = world.teacher.lists(12, world.train).ids
        found = np.zeros(12)
        for epoch in range(40):
            world.method.begin_epoch(epoch, world.student)
            drawn = world.method._ids.long()
            found += (best.unsqueeze(1) == drawn.unsqueeze(2)).sum((0, 1)).numpy()
        wanted = share(np.arange(1.0, 13.0))
        wanted /= wanted.sum()
        total = 29 * 40 * 40
        assert found.sum() == total
        assert np.abs(found / total - wanted).max() < 5 * np.sqrt(wanted.max() / total)

    def test_draws_do_not_depend_on_the_past(self):
        walked, jumped = self.world(), self.world()
        for epoch in range(4):
            walked.method.begin_epoch(epoch, walked.student)
        jumped.method.begin_epoch(3, jumped.student)
        assert torch.equal(walked.method._ids, jumped.method._ids)
        assert jumped.method.state_dict() == {}

    def test_a_head_longer_than_the_catalogue_is_all_of_it(self):
        method = self.started(top=3000, drawn=60).method
        assert (method._ids >= 0).all()
        assert torch.equal(method._ids, self.started(top=None, drawn=60).method._ids)

    def test_short_lists_are_refused_with_what_would_work(self):
        world = self.world()
        head = world.teacher.lists(7, world.train)
        method = build_method("cd", self.options, Seeds(0))
        with pytest.raises(TeacherError, match=r"fewer than 12 listed items.*ask for at most 7"):
            method.prepare(ListTeacher(head.ids, head.scores, 47), world.student, world.train, epochs=2)

    def test_huge_teacher_scores_are_certain_targets(self):
        world = self.started(temperature=1.0)
        world.method._scores *= 1e4
        kd = world.loss(world.batch(np.arange(30))).kd
        kd.backward()
        assert torch.isfinite(kd)


class TestStudentGuided(Guided):
    options: ClassVar = {**OPTIONS, "update": 2}
    sources = ("model", "embeddings")

    def test_items_come_from_the_students_head(self):
        world = self.started(top=4)
        tables = world.student.frozen_tables()
        head = ops.rank_topk(tables.users, tables.items, 4, exclude=world.train).ids
        assert (world.method._ids.unsqueeze(2) == head.unsqueeze(1)).any(2).all()

    def test_draws_stay_for_a_window(self):
        world = self.started()
        first = world.method._ids.clone()
        world.method.begin_epoch(1, world.student)
        assert torch.equal(world.method._ids, first)
        world.method.begin_epoch(2, world.student)
        assert not torch.equal(world.method._ids, first)

    def test_items_are_those_at_the_drawn_ranks(self, monkeypatch):
        # Users one at a time, each ranked no farther than its own draws reach: 64 ranks, 128, or all.
        monkeypatch.setattr(cd, "LEAST_BLOCK", 1)
        monkeypatch.setattr(cd, "LENGTHS", 1 << 20)
        world = self.started(train=random_interactions(120, 150, 9), top=None, drawn=1)
        method, tables = world.method, world.student.frozen_tables()
        ranking = ops.rank_topk(tables.users, tables.items, 150, exclude=world.train).ids
        ranks = method._positions(torch.arange(120), torch.full((120,), 141), 0)
        assert ((ranks + 1) % 64 == 1).any(), "some reach one past a round length"
        assert torch.equal(method._ids.long(), ranking.gather(1, ranks))

    def test_lists_of_unlike_lengths_are_long_enough_for_each(self):
        # All users in one block, where not the last one but the one that needs most decides.
        full = Interactions.from_pairs([39] * 140, range(140), num_users=40, num_items=150)
        train = random_interactions(40, 150, 9).union(full)
        world = self.started(train=train, top=None, drawn=3)
        tables = world.student.frozen_tables()
        ranking = ops.rank_topk(tables.users, tables.items, 150, exclude=train).ids
        ranks = world.method._positions(torch.arange(40), torch.from_numpy(150 - train.degrees()), 0)
        assert ranks[39].max() < 64 < ranks.max()
        assert torch.equal(world.method._ids.long(), ranking.gather(1, ranks))

    def test_with_update_one_each_epoch_has_its_draws(self):
        world = self.started(update=1)
        first = world.method._ids.clone()
        world.method.begin_epoch(1, world.student)
        assert not torch.equal(world.method._ids, first)


class TestBase(Guided):
    options: ClassVar = {**OPTIONS, "guide": "base"}
    sources = ("model", "embeddings")

    def test_every_untouched_item_comes(self):
        world = self.started(drawn=2000)
        for user in range(29):
            untouched = sorted(set(range(47)) - set(world.train.row(user).tolist()))
            assert sorted(set(world.method._ids[user].tolist())) == untouched

    def test_each_epoch_has_its_draws(self):
        world = self.started()
        first = world.method._ids.clone()
        world.method.begin_epoch(1, world.student)
        assert not torch.equal(world.method._ids, first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drawn": 0}, "drawn must be at least 1, got 0"),
        ({"top": 0}, "top must be at least 1, got 0"),
        ({"gamma": 0.0}, r"gamma must be a positive number, got 0\.0"),
        ({"shift": float("nan")}, "shift must be a finite number, got nan"),
        ({"law": "cubic"}, "law: 'cubic' is not allowed"),
        ({"guide": "teacher", "update": 3}, "update=3 is for guide=student; guide=teacher"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        build_method("cd", options, Seeds(0))
