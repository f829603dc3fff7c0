from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.distillation import build_method, refresh
from fastkd.distillation import dcd as module
from fastkd.distillation.dcd import correction_weights
from fastkd.models import EmbeddingTeacher
from tests.contracts.method_contract import MethodContract
from tests.distillation.golden_numbers import compare, golden, ids


def test_published_weights():
    # The list's positions 1, 5 and 3 have the ranks 4, 2 and 3 (the values of the method's specification).
    under, over = correction_weights(torch.tensor([[4, 2, 3, 4, 2]]), 10.0)
    assert under[0, [0, 4, 2]].tolist() == pytest.approx([0.2913126125, 1e-5, 1e-5], abs=1e-10)
    assert over[0, [0, 4, 2]].tolist() == pytest.approx([1e-5, np.tanh(0.3), 1e-5])
    under, over = correction_weights(torch.tensor([[10**7, 0]]), 1e-3)
    assert under.tolist() == [[1.0, 0.0]]
    assert over.tolist() == [[1e-5, 0.0]]


class TestDCD(MethodContract):
    name = "dcd"
    options: ClassVar = {"ranked": 4, "top": 12, "temperature": 3.0, "weight": 0.1}
    sources = ("model", "embeddings", "lists")

    def test_golden_numbers(self):
        case = golden("dcd")
        method = self.world(weight=case.weight).method
        method._window._tables = {"user/under": ids(case.under), "user/over": ids(case.over)}
        compare(method, case)

    def test_golden_cross_entropy(self):
        case = golden("dcd")
        for name, value in case.cross_entropy.items():
            setattr(case, name, value)
        method = self.world(weight=case.weight, objective="cross_entropy", tau=case.tau).method
        method._top["user"], method._top_scores["user"] = ids(case.teacher_lists), torch.tensor(case.teacher_scores)
        method._window._tables = {"user/under": ids(case.under), "user/over": ids(case.over)}
        method._read()
        method._sets["user"] = method._sets["user"][0], method._sets["user"][1].double()
        compare(method, case, rtol=1e-6)

    def test_golden_ranks_and_weights(self, monkeypatch):
        case = golden("dcd")
        pairs = [(u, i) for u, row in enumerate(case.seen) for i in row]
        train = Interactions.from_pairs(*zip(*pairs, strict=True), num_users=3, num_items=8)
        world = self.world(train=train, ranked=2, top=4)
        world.method._top["user"] = ids(case.teacher_lists)
        with torch.no_grad():
            world.student.user_embedding.copy_(torch.tensor(case.users))
            world.student.item_embedding.copy_(torch.tensor(case.items))
        met = []
        weigh = module.correction_weights
        monkeypatch.setattr(module, "correction_weights", lambda *args: met.append(weigh(*args)) or met[-1])
        world.method.config = type(world.method.config)(ranked=2, top=4, temperature=case.temperature)
        world.method.begin_epoch(0, world.student)
        np.testing.assert_allclose(met[0][0], case.under_weights, rtol=1e-12)
        np.testing.assert_allclose(met[0][1], case.over_weights, rtol=1e-12)

    @pytest.mark.parametrize("ranks", ["unobserved", "catalogue"])
    def test_lists_hold_what_is_off(self, ranks):
        world = self.world(student_ranks=ranks, top=20)
        tables = world.student.frozen_tables()
        scores = (tables.users.double() @ tables.items.double().T).float().numpy()
        top = world.teacher.lists(20, world.train).ids.numpy()
        counts = np.zeros((2, 2))
        for epoch in range(6):
            world.method.begin_epoch(epoch, world.student)
            for user in range(29):
                seen = set(world.train.row(user).tolist()) if ranks == "unobserved" else set()
                order = [i for i in np.argsort(-scores[user], kind="stable").tolist() if i not in seen]
                gap = np.array([order.index(i) - r for r, i in enumerate(top[user].tolist())])
                for kind, sign in (("under", 1), ("over", -1)):
                    drawn = world.method._window[f"user/{kind}"][user].tolist()
                    positions = [top[user].tolist().index(i) for i in drawn]
                    assert positions == sorted(set(positions))
                    off = sign * gap > 0
                    wrong = (~off[positions]).sum()
                    # Items of the floor weight come in only when the others have run out.
                    counts[int(sign < 0)] += [wrong > max(0, 4 - off.sum()), 1]
        assert (counts[:, 0] <= 2).all()
        assert (counts[:, 1] == 29 * 6).all()

    @pytest.mark.parametrize("ranks", ["unobserved", "catalogue"])
    @pytest.mark.parametrize("temperature", [0.05, 0.5, 1.3])
    def test_a_list_within_reach_weighs_as_the_ranks_do(self, ranks, temperature, monkeypatch):
        options = {"student_ranks": ranks, "top": 12, "temperature": temperature, "item_weight": 0.1}
        met = {}
        weigh = module.correction_weights
        for longest in (0, module.LONGEST):
            monkeypatch.setattr(module, "LONGEST", longest)
            seen = met[longest] = []
            monkeypatch.setattr(module, "correction_weights", lambda *a, seen=seen: seen.append(weigh(*a)) or seen[-1])
            world = self.started(**options)
            seen.append(tuple(world.method._window[f"user/{kind}"] for kind in module.KINDS))
        assert module.reach(world.method.config, 47) is not None
        for by_ranks, by_list in zip(*met.values(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(by_ranks, by_list, strict=True))

    @pytest.mark.parametrize(
        ("temperature", "count", "expected"), [(10.0, 701, 700), (10.0, 700, None), (180.0, 10**6, None)]
    )
    def test_how_far_the_weights_reach(self, temperature, count, expected):
        config = module.DCDConfig(temperature=temperature)
        assert module.reach(config, count) == expected
        one_more = torch.tensor([[config.top + math.ceil(module.SATURATED * temperature) + 1]]).expand(1, config.top)
        assert (correction_weights(one_more, temperature)[0] == 1).all()

    def test_a_teacher_equal_to_the_student_draws_evenly(self):
        world = self.world(top=10, ranked=3)
        own = world.student.frozen_tables()
        method = build_method("dcd", {**self.options, "top": 10, "ranked": 3}, Seeds(2))
        method.prepare(EmbeddingTeacher(own.users, own.items), world.student, world.train, epochs=2)
        found = np.zeros(10)
        for epoch in range(60):
            method.begin_epoch(epoch, world.student)
            drawn = method._window["user/under"].long()
            found += (method._top["user"].long().unsqueeze(1) == drawn.unsqueeze(2)).sum((0, 1)).numpy()
        expected = found.sum() / 10
        assert ((found - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001

    def test_the_two_draws_are_independent(self):
        # Of a student who ranks as the teacher does all items weigh the same in both.
        world = self.world(top=10, ranked=3)
        own = world.student.frozen_tables()
        method = build_method("dcd", {**self.options, "top": 10, "ranked": 3}, Seeds(2))
        method.prepare(EmbeddingTeacher(own.users, own.items), world.student, world.train, epochs=2)
        method.begin_epoch(0, world.student)
        under, over = (method._window[f"user/{kind}"] for kind in module.KINDS)
        assert (under != over).any(1).sum() > 20

    @pytest.mark.parametrize("item_weight", [0.0, 0.5])
    def test_the_mean_is_over_distinct_users_and_over_distinct_items(self, item_weight):
        whole, mean = (self.started(item_weight=item_weight, reduction=r) for r in ("sum", "mean"))
        batch = whole.batch(np.arange(60))
        users = batch.users.unique()
        items = torch.cat([whole.method._window[f"user/{kind}"][users] for kind in module.KINDS]).unique()
        wanted = 0.1 * whole.loss(batch).parts["dcd"].item() / len(users)
        if item_weight:
            wanted += item_weight * whole.loss(batch).parts["dcd_items"].item() / (items >= 0).sum().item()
        assert mean.loss(batch).kd.item() == pytest.approx(wanted, rel=1e-5)

    def test_the_order_of_the_draw_is_an_option(self):
        sets, drawn = self.started(ranked=6), self.started(ranked=6, order="drawn")
        ours, theirs = (w.method._window["user/under"] for w in (sets, drawn))
        assert torch.equal(ours.sort(1).values, theirs.sort(1).values)
        assert not torch.equal(ours, theirs)

    def test_draws_do_not_depend_on_blocks(self, monkeypatch):
        whole = self.started()
        monkeypatch.setattr(refresh, "USER_BLOCK", 7)
        cut = self.started()
        for name, list_ in whole.method._window._tables.items():
            assert torch.equal(list_, cut.method._window[name])

    def test_lists_follow_the_student_and_are_kept_for_update_epochs(self):
        world = self.world(update=2)
        optimizer, seen = world.optimizer(), []
        world.method.progress = lambda what, done, total: seen.append((what, done, total))
        lists = []
        for epoch in range(3):
            world.fit(optimizer, range(epoch, epoch + 1))
            lists.append(world.method._window["user/under"].clone())
        assert torch.equal(lists[0], lists[1])
        assert not torch.equal(lists[1], lists[2])
        assert seen == [("ranking users' lists", 29, 29)] * 2

    def test_a_run_stopped_inside_an_epoch_keeps_its_lists(self):
        world = self.started()
        state = {k: v.copy() for k, v in world.method.state_dict().items()}
        with torch.no_grad():
            world.student.item_embedding.mul_(-1.0)  # the student went on
        other = self.world()
        other.method.load_state_dict(state)
        other.method.begin_epoch(0, world.student)
        assert torch.equal(other.method._window["user/under"], world.method._window["user/under"])
        with pytest.raises(CheckpointError, match=r"dcd state user/over: expected \[29, 5\], got \[29, 4\]"):
            self.world(ranked=5).method.load_state_dict(state)

    def test_the_item_side(self):
        world = self.started(item_weight=0.5)
        lists = world.method._window
        best = EmbeddingTeacher(world.teacher.tables().items, world.teacher.tables().users)
        top = best.lists(12, world.train.transpose()).ids
        for item in range(47):
            held = [u for u in lists["item/under"][item].tolist() if u >= 0]
            assert set(held) <= set(top[item].tolist())
        batch = world.batch(np.arange(60))
        parts = world.loss(batch)
        assert parts.kd.item() == pytest.approx(
            0.1 * parts.parts["dcd"].item() + 0.5 * parts.parts["dcd_items"].item(), rel=1e-6
        )
        parts.kd.backward()
        assert torch.isfinite(world.student.user_embedding.grad).all()

    def test_nothing_left_to_rank_is_no_loss(self):
        users, items = np.divmod(np.arange(3 * 47), 47)
        world = self.world(train=Interactions.from_pairs(users, items, num_users=3, num_items=47))
        world.method.begin_epoch(0, world.student)
        assert world.loss(world.batch(np.arange(20))).kd.item() == 0.0

    def test_a_loss_before_its_lists_is_refused(self):
        world = self.world()
        with pytest.raises(ValueError, match="call begin_epoch"):
            world.loss(world.batch([0]))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"ranked": 50, "top": 40}, "ranked=50 items cannot come from a list of top=40"),
            ({"temperature": 0.0}, "temperature must be"),
            ({"order": "random"}, "order: 'random' is not allowed"),
            ({"student_ranks": "all"}, "student_ranks: 'all' is not allowed"),
            ({"update": 0}, "update must be at least 1"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("dcd", options, Seeds(0))


class TestCrossEntropy(MethodContract):
    name = "dcd"
    options: ClassVar = {
        "ranked": 4, "top": 12, "temperature": 3.0, "weight": 0.1, "objective": "cross_entropy", "update": 2,
    }  # fmt: skip
    sources = ("model", "embeddings", "lists")
    falls_to = 0.99

    def test_both_lists_are_one_set_with_the_teachers_scores(self):
        world = self.started()
        sets, scores = world.method._sets["user"]
        tables = world.teacher.tables()
        for user in range(29):
            held = [i for i in sets[user].tolist() if i >= 0]
            both = {i for kind in ("under", "over") for i in world.method._window[f"user/{kind}"][user].tolist()}
            assert len(held) == len(set(held))
            assert set(held) == both
            wanted = tables.users[user] @ tables.items[held].T
            torch.testing.assert_close(scores[user][sets[user] >= 0], wanted)

    def test_items_learn_too(self):
        world = self.started(item_weight=0.05)
        parts = world.loss(world.batch(np.arange(40))).parts
        assert parts["dcd_items"] > 0
