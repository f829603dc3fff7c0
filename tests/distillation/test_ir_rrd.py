from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import Shape, build_method
from fastkd.distillation.ir_rrd import IRRRDConfig
from fastkd.models import EmbeddingTeacher
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids


class TestIRRRD(MethodContract):
    name = "ir_rrd"
    options: ClassVar = {
        "ranked": 4, "unranked": 5, "top": 9, "temperature": 3.0, "weight": 0.1,
        "item_ranked": 3, "item_unranked": 4, "item_top": 8, "item_temperature": 3.0, "item_weight": 0.05,
    }  # fmt: skip
    sources = ("model", "embeddings")

    @pytest.mark.parametrize("source", ["model", "embeddings", "lists"])
    def test_other_sources_are_refused(self, source):
        super().test_other_sources_are_refused(source)

    def test_golden_numbers(self):
        case = golden("ir_rrd")
        method = self.world(weight=case.weight, item_weight=case.item_weight).method
        method._ranked, method._unranked = ids(case.ranked), ids(case.unranked)
        method._item_ranked, method._item_unranked = ids(case.item_ranked), ids(case.item_unranked)
        compare(method, case)

    def test_the_user_side_is_rrd(self):
        world = self.started(item_weight=0.0)
        shared = {k: v for k, v in self.options.items() if not k.startswith("item")}
        plain = build_method("rrd", shared, Seeds(0))
        plain.prepare(world.teacher, world.student, world.train, epochs=2)
        plain.begin_epoch(0, world.student)
        assert torch.equal(plain._ranked, world.method._ranked)
        assert torch.equal(plain._unranked, world.method._unranked)
        batch = world.batch(np.arange(50))
        ours = world.loss(batch).kd.item()
        world.method = plain
        assert ours == world.loss(batch).kd.item()
        lists = self.started(item_weight=0.0, source="lists")
        assert lists.loss(batch).kd.item() == ours

    def test_item_lists_hold_the_right_users(self):
        world = self.world()
        seen = world.train.transpose()
        tables = world.teacher.tables()
        scores = (tables.items.double() @ tables.users.double().T).numpy()
        for epoch in range(3):
            world.method.begin_epoch(epoch, world.student)
            for item in range(47):
                known = set(seen.row(item).tolist())
                order = [u for u in np.argsort(-scores[item], kind="stable").tolist() if u not in known][:8]
                best = world.method._item_ranked[item].tolist()
                rest = world.method._item_unranked[item].tolist()
                assert [order.index(u) for u in best] == sorted({order.index(u) for u in best})
                assert len(set(rest)) == 4
                assert not set(rest) & (known | set(order))

    def test_all_four_lists_are_drawn_anew_each_epoch(self):
        method, lists = self.started().method, ("_ranked", "_unranked", "_item_ranked", "_item_unranked")
        first = {name: getattr(method, name).clone() for name in lists}
        method.begin_epoch(1, None)
        assert [name for name in lists if torch.equal(first[name], getattr(method, name))] == []

    def test_each_side_has_its_own_temperature(self):
        world = self.started(temperature=100.0, item_temperature=0.01)
        flipped = EmbeddingTeacher(world.teacher.tables().items, world.teacher.tables().users)
        heads = flipped.lists(3, world.train.transpose()).ids
        assert torch.equal(world.method._item_ranked.long(), heads)
        assert not torch.equal(world.method._ranked.long(), world.teacher.lists(4, world.train).ids)

    def test_items_are_those_of_the_batch_only(self):
        world = self.started(weight=0.0, item_weight=1.0, unranked=0, ranked=1)
        tables = world.student.tables()
        world.loss(world.batch([0])).kd.backward()
        user = int(world.train.entry_users()[0])
        item = int(world.method._ranked[user, 0])
        touched = world.student.item_embedding.grad.abs().sum(1).nonzero().flatten().tolist()
        assert touched == [item]
        users = set(world.student.user_embedding.grad.abs().sum(1).nonzero().flatten().tolist())
        lists = world.method._item_ranked[item].tolist() + world.method._item_unranked[item].tolist()
        assert users == set(lists)
        assert tables.items.shape[0] == 47

    def test_a_share_of_the_items_is_right_on_average(self):
        whole = self.started(weight=0.0, item_weight=1.0)
        part = self.started(weight=0.0, item_weight=1.0, items_per_step=7)
        batch = whole.batch(np.arange(100))
        wanted = whole.loss(batch).parts["ir_rrd_items"].item()
        found = [part.loss(batch, step=s).parts["ir_rrd_items"].item() for s in range(300)]
        assert len({round(f, 3) for f in found}) > 30
        assert np.mean(found) == pytest.approx(wanted, rel=0.03)
        assert self.started(weight=0.0, item_weight=1.0, items_per_step=500).loss(batch).kd.item() == pytest.approx(
            wanted
        )

    def test_the_mean_over_a_share_is_right_on_average(self):
        options = {"weight": 0.0, "item_weight": 1.0, "reduction": "mean"}
        whole, part = self.started(**options), self.started(**options, items_per_step=7)
        batch = whole.batch(np.arange(100))
        found = [part.loss(batch, step=s).kd.item() for s in range(300)]
        assert np.mean(found) == pytest.approx(whole.loss(batch).kd.item(), rel=0.03)

    def test_a_share_does_not_depend_on_the_order_of_the_batch(self):
        world = self.started(items_per_step=5)
        entries = np.arange(80)
        values = [world.loss(world.batch(e), step=3).kd.item() for e in (entries, entries[::-1].copy())]
        assert values[0] == pytest.approx(values[1], rel=1e-6)

    @pytest.mark.parametrize("limit", [1, 400])
    def test_short_lists_on_the_item_side(self, limit):
        world = self.started(item_top=limit, item_ranked=1, item_unranked=40)
        assert torch.isfinite(world.loss(world.batch(np.arange(30))).kd)
        left = 29 - np.asarray(world.train.item_counts())
        rest = (world.method._item_unranked >= 0).sum(1).numpy()
        np.testing.assert_array_equal(rest, np.clip(left - limit, 0, 40))

    def test_cost_counts_the_item_side(self):
        at = Shape(users=1000, items=5000, dim=8, teacher_dim=16, batch=64, interactions=9000)
        kind = type(self.world().method)
        without = kind.cost(IRRRDConfig(items_per_step=1), at)
        cost = kind.cost(IRRRDConfig(), at)
        assert cost.prepare.flops == 2 * 2 * 1000 * 5000 * 16
        assert cost.step.flops > 3 * without.step.flops

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"item_ranked": 50, "item_top": 40}, "item_ranked=50 users cannot come from a list of item_top=40"),
            ({"ranked": 50, "top": 40}, "ranked=50 items cannot come"),
            ({"items_per_step": 0}, "items_per_step must be at least 1, got 0"),
            ({"item_weight": -1.0}, "item_weight must be"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("ir_rrd", options, Seeds(0))
