from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.distillation import build_method, rrd
from fastkd.models import ListTeacher
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids


def relaxed_loss(scores: np.ndarray, ranked: np.ndarray, unranked: np.ndarray) -> float:
    """- sum_k [s_pi_k - log(sum_{j >= k} exp s_pi_j + sum_i exp s_i)] of one user, as published."""
    best, rest = scores[ranked[ranked >= 0]], scores[unranked[unranked >= 0]]
    return -sum(best[k] - np.log(np.exp(best[k:]).sum() + np.exp(rest).sum()) for k in range(len(best)))


class TestRRD(MethodContract):
    name = "rrd"
    options: ClassVar = {"ranked": 4, "unranked": 5, "top": 9, "temperature": 3.0, "weight": 0.1}
    sources = ("model", "embeddings", "lists")

    def test_golden_numbers(self):
        case = golden("rrd")
        method = self.world(weight=case.weight).method
        method._ranked, method._unranked = ids(case.ranked), ids(case.unranked)
        compare(method, case)

    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    def test_loss_is_the_published_one_over_distinct_users(self, reduction):
        world = self.started(reduction=reduction, weight=0.25)
        batch = world.batch(np.arange(3, 60))
        tables = world.student.frozen_tables()
        scores = (tables.users.double() @ tables.items.double().T).numpy()
        users = sorted(set(batch.users.tolist()))
        method = world.method
        losses = [relaxed_loss(scores[u], method._ranked[u].numpy(), method._unranked[u].numpy()) for u in users]
        wanted = 0.25 * (np.sum(losses) if reduction == "sum" else np.mean(losses))
        assert len(users) < len(batch)
        assert world.loss(batch).kd.item() == pytest.approx(wanted, rel=1e-5)

    def test_lists_hold_what_they_should(self):
        world = self.world()
        best = world.teacher.lists(9, world.train).ids.numpy()
        for epoch in range(5):
            world.method.begin_epoch(epoch, world.student)
            for user in range(29):
                ranked, unranked = world.method._ranked[user].tolist(), world.method._unranked[user].tolist()
                seen = set(world.train.row(user).tolist())
                positions = [best[user].tolist().index(item) for item in ranked]
                assert positions == sorted(set(positions))
                assert len(set(unranked)) == 5
                assert not set(unranked) & (seen | set(best[user].tolist()))

    def test_storage_is_narrow(self):
        method = self.started().method
        assert method._top.dtype == method._ranked.dtype == method._unranked.dtype == torch.int32

    def test_early_ranks_are_drawn_more_often(self):
        world = self.world(top=30, ranked=3)
        best = world.teacher.lists(30, world.train).ids
        found = np.zeros(30)
        for epoch in range(40):
            world.method.begin_epoch(epoch, world.student)
            drawn = world.method._ranked.long()
            found += (best.unsqueeze(1) == drawn.unsqueeze(2)).sum((0, 1)).numpy()
        assert found.sum() == 29 * 3 * 40
        assert found[0] > found[4] > found[9] > found[20]

    def test_a_low_temperature_draws_the_first(self):
        world = self.started(temperature=0.01)
        assert torch.equal(world.method._ranked.long(), world.teacher.lists(4, world.train).ids)
        assert not torch.equal(self.started(temperature=100.0).method._ranked, world.method._ranked)

    @pytest.mark.parametrize("options", [{"interesting": "topk"}, {"ranked": 9}])
    def test_exact_top_and_a_draw_of_everything(self, options):
        world = self.started(**options)
        width = options.get("ranked", 4)
        assert torch.equal(world.method._ranked.long(), world.teacher.lists(9, world.train).ids[:, :width])

    def test_draws_do_not_depend_on_the_past_or_on_blocks(self, monkeypatch):
        walked, jumped = self.world(), self.world()
        for epoch in range(4):
            walked.method.begin_epoch(epoch, walked.student)
        monkeypatch.setattr(rrd, "USER_BLOCK", 7)
        jumped.method.begin_epoch(3, jumped.student)
        assert torch.equal(walked.method._ranked, jumped.method._ranked)
        assert torch.equal(walked.method._unranked, jumped.method._unranked)
        jumped.method.begin_epoch(4, jumped.student)
        assert not torch.equal(walked.method._unranked, jumped.method._unranked)
        assert not torch.equal(walked.method._ranked, jumped.method._ranked)

    def test_users_short_of_items_get_what_there_is(self):
        # 47 items, 6 seen: 41 left, so a teacher list of 39 leaves 2 for the other list.
        method = self.started(top=39, ranked=4, unranked=5).method
        assert (method._unranked >= 0).sum(1).tolist() == [2] * 29
        assert (method._ranked >= 0).all()
        method = self.started(top=60, ranked=50, unranked=5).method
        assert (method._unranked == -1).all()
        assert (method._ranked >= 0).sum(1).tolist() == [41] * 29

    def test_a_bound_on_the_users_of_the_batch_may_be_tight(self):
        # Off the CPU batches bring one: the number of runs of rows of one user.
        world = self.started()
        batch = world.batch(np.arange(30))
        tight = dataclasses.replace(batch, runs=len(batch.users.unique()))
        assert world.loss(tight).kd.item() == world.loss(batch).kd.item()

    def test_no_uninteresting_items_is_the_plain_list_loss(self):
        world = self.started(unranked=0)
        assert torch.isfinite(world.loss(world.batch(np.arange(20))).kd)

    def test_lists_too_short_for_top_are_refused_with_what_would_work(self):
        world = self.world()
        head = world.teacher.lists(7, world.train)
        method = build_method("rrd", self.options, Seeds(0))
        with pytest.raises(TeacherError, match=r"fewer than 9 listed items.*ask for at most 7"):
            method.prepare(ListTeacher(head.ids, head.scores, 47), world.student, world.train, epochs=2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"ranked": 50, "top": 40}, "ranked=50 items cannot come from a list of top=40"),
            ({"ranked": 0}, "ranked must be at least 1, got 0"),
            ({"unranked": -1}, "unranked must be at least 0, got -1"),
            ({"temperature": 0.0}, r"temperature must be a positive number, got 0\.0"),
            ({"interesting": "best"}, "interesting: 'best' is not allowed"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("rrd", options, Seeds(0))
