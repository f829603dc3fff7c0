from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds, ops
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method, unkd
from fastkd.distillation._draws import draw_pairs
from fastkd.distillation.unkd import group_pairs, popularity_groups
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids


def test_published_loss():
    gaps = ops.pairwise(torch.tensor([1.0, 0, -1]).double(), torch.tensor([[0.5], [0.5], [-2]]).double())
    assert gaps.sum().item() == pytest.approx(1.7614156558784362, rel=1e-12)
    assert gaps.mean().item() == pytest.approx(0.5871385519594787, rel=1e-12)


def test_groups_are_filled_as_the_authors_loop_fills_them():
    cases = golden("unkd").popularity
    for case in cases:
        groups = popularity_groups(np.array(case["counts"]), case["groups"])
        assert [g.tolist() for g in groups] == case["filled"]
    assert len(cases) == 7


@pytest.mark.parametrize("seed", range(5))
def test_groups_part_the_catalogue_by_popularity(seed):
    counts = np.random.default_rng(seed).zipf(1.3, 300).clip(max=500)
    groups = popularity_groups(counts, 4)
    assert sorted(np.concatenate(groups).tolist()) == list(range(300))
    for more, fewer in itertools.pairwise(groups):
        assert counts[more].min() >= counts[fewer].max()


def test_pairs_of_each_group():
    counts, groups = np.array([8, 6, 2, 2, 1, 1]), [np.array([0, 1]), np.array([2, 3]), np.array([4, 5])]
    assert group_pairs(counts, groups, 30, 0.0) == [10, 10, 10]
    assert group_pairs(counts, groups, 31, 0.0) == [11, 10, 10]
    # Means 7, 2, 1 turn to 1, 6, 7: shares 0.07 -> 0.1, 0.43, 0.5.
    assert group_pairs(counts, groups, 103, 1.0) == [10, 43, 50]
    assert group_pairs(np.zeros(6, dtype=np.int64), groups, 6, 1.0) == [2, 2, 2]


def test_pairs_have_the_stated_distribution():
    temperature, length = 3.0, 5
    better, worse = draw_pairs(np.arange(20000), np.full(20000, length), 2, temperature, key=77)
    p = np.exp(-np.arange(1, length + 1) / temperature)
    wanted = np.triu(np.outer(p, p), 1)
    wanted = wanted / wanted.sum() * better.size
    found = np.zeros((length, length))
    np.add.at(found, (better, worse), 1)
    upper = np.triu_indices(length, 1)
    assert found.sum() == found[upper].sum()
    statistic = ((found[upper] - wanted[upper]) ** 2 / wanted[upper]).sum()
    assert statistic < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


def test_a_pair_depends_on_its_row_and_slot_alone():
    lengths = np.array([5, 0, 1, 2, 40])
    better, worse = draw_pairs(np.array([3, 4, 5, 6, 2**40]), lengths, 6, 20.0, key=5)
    assert (better[1:3] == -1).all()
    assert (worse[1:3] == -1).all()
    assert (better[3] == 0).all()
    assert (worse[3] == 1).all()
    again = draw_pairs(np.array([2**40, 3]), np.array([40, 5]), 3, 20.0, key=5)
    np.testing.assert_array_equal(again[0], better[[4, 0], :3])
    np.testing.assert_array_equal(again[1], worse[[4, 0], :3])
    assert (worse[4] < 40).all()


class TestUnKD(MethodContract):
    name = "unkd"
    options: ClassVar = {"groups": 3, "pairs": 7, "top": 6, "temperature": 3.0, "weight": 0.1}
    sources = ("model", "embeddings", "lists")

    def test_golden_numbers(self):
        case = golden("unkd")
        method = self.world(weight=case.weight).method
        method._better, method._worse = ids(case.better), ids(case.worse)
        compare(method, case)

    def test_pairs_are_of_one_group_and_in_the_teachers_order(self):
        world = self.world()
        tables = world.teacher.tables()
        scores = (tables.users.double() @ tables.items.double().T).numpy()
        counts = world.train.item_counts()
        groups = popularity_groups(counts, 3)
        drawn = group_pairs(counts, groups, 7, 0.0)
        group_of = np.empty(47, dtype=int)
        for at, group in enumerate(groups):
            group_of[group] = at
        wanted = np.repeat(np.arange(len(groups)), drawn)
        for epoch in range(3):
            world.method.begin_epoch(epoch, world.student)
            for user in range(29):
                seen = set(world.train.row(user).tolist())
                better, worse = world.method._better[user].tolist(), world.method._worse[user].tolist()
                assert not (set(better) | set(worse)) & seen
                assert (group_of[better] == wanted).all()
                assert (group_of[worse] == wanted).all()
                assert (scores[user, better] > scores[user, worse]).all()
                for group in groups:
                    best = sorted(set(group.tolist()) - seen, key=lambda i: -scores[user, i])[:6]
                    inside = {i for i in better + worse if i in set(group.tolist())}
                    assert inside <= set(best)

    def test_draws_do_not_depend_on_the_past_or_on_blocks(self, monkeypatch):
        walked = self.world()
        for epoch in range(3):
            walked.method.begin_epoch(epoch, walked.student)
        monkeypatch.setattr(unkd, "BLOCK", 7)
        jumped = self.world()
        jumped.method.begin_epoch(2, jumped.student)
        assert torch.equal(walked.method._better, jumped.method._better)
        assert torch.equal(walked.method._worse, jumped.method._worse)
        assert walked.method._better.dtype == torch.int32

    def test_each_epoch_has_its_pairs(self):
        method = self.started().method
        better, worse = method._better, method._worse
        method.begin_epoch(1, None)
        assert not torch.equal(method._better, better)
        assert not torch.equal(method._worse, worse)

    def test_each_group_has_its_positions(self):
        method = self.started(groups=2, pairs=20).method
        places = [ops.ranks_within(method._better[:, 10 * g : 10 * g + 10].long(), method._lists[g]) for g in (0, 1)]
        assert not torch.equal(*places)

    def test_a_low_temperature_keeps_to_the_head(self):
        heads = []
        for temperature in (0.5, 50.0):
            method = self.started(groups=1, top=12, temperature=temperature).method
            heads.append((method._better == method._lists[0][:, :1]).float().mean().item())
        assert heads[0] > 0.8 > 0.4 > heads[1]

    def test_users_short_of_items_skip_the_group(self):
        users, items = np.divmod(np.arange(4 * 12), 12)
        keep = (users != 0) | (items > 0)
        train = Interactions.from_pairs(users[keep], items[keep], num_users=4, num_items=12)
        world = self.world(train=train)
        world.method.begin_epoch(0, world.student)
        assert (world.method._better == -1).all()
        assert world.loss(world.batch(np.arange(20))).kd.item() == 0.0

    def test_the_mean_is_over_the_pairs_there_are(self):
        world = self.started(reduction="mean", weight=1.0)
        world.method._better[:, 3:] = -1
        world.method._worse[:, 3:] = -1
        tables = world.student.frozen_tables()
        batch = world.batch(np.arange(12))
        rows = []
        for user in batch.users.tolist():
            pairs = zip(world.method._better[user, :3].tolist(), world.method._worse[user, :3].tolist(), strict=True)
            gaps = [float(tables.users[user] @ (tables.items[a] - tables.items[b])) for a, b in pairs]
            rows.append(np.mean([np.log1p(np.exp(-g)) for g in gaps]))
        assert world.loss(batch).kd.item() == pytest.approx(np.mean(rows), rel=1e-5)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"temperature": 0.1}, r"temperature must be at least 0\.5, got 0\.1"),
            ({"temperature": -1.0}, "temperature must be a positive number"),
            ({"top": 1}, "top must be at least 2, got 1"),
            ({"groups": 0}, "groups must be at least 1"),
            ({"tilt": float("inf")}, "tilt must be a finite number"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("unkd", options, Seeds(0))
