from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method
from fastkd.distillation._preference import list_consistency, order_kept, pair_consistency
from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import double, give_experts, part, prepared
from tests.distillation.golden_numbers import compare, golden, ids


class TestPCKD(MethodContract):
    name = "pckd"
    options: ClassVar = {
        "experts": 4, "weight": 0.05, "listed": 3, "top": 10, "sharpness": 4.0, "list_temperature": 0.5, "update": 2,
    }  # fmt: skip
    sources = ("model", "embeddings")
    own_modules = True

    @pytest.mark.parametrize("regulariser", ["list", "pair", "hybrid"])
    def test_golden_numbers(self, regulariser):
        case = golden("pckd")
        method = prepared(
            "pckd", case, experts=2, alpha=case.alpha, list_temperature=case.sharp, temperature_start=case.tau,
            listed=3, top=5, regulariser=regulariser,
        )  # fmt: skip
        method._lists = None if regulariser == "pair" else ids(case.lists)
        method._pairs = None if regulariser == "list" else ids(case.pairs)
        used = [t for t in (method._lists, method._pairs) if t is not None]
        users = sorted(set(case.batch))
        # A place without an item is projected too, as item 0, and counts for nothing.
        items = sorted({int(i) for t in used for i in t[users].flatten()})
        give_experts(method, case, (users, [max(i, 0) for i in items]))
        compare(method, part(case, regulariser))

    def test_order_kept_is_the_golden_share(self):
        case = golden("pckd")
        method = prepared("pckd", case, experts=2, temperature_start=case.tau, listed=3, top=5)
        method._lists, method._pairs, users = ids(case.lists), None, sorted(set(case.batch))
        items = sorted({int(i) for i in method._lists[users].flatten()})
        give_experts(method, case, (users, [max(i, 0) for i in items]))
        tables = type(
            "T", (), {"user_vectors": double(case.users).__getitem__, "item_vectors": double(case.items).__getitem__}
        )
        made = type(
            "S",
            (),
            {"batch": type("B", (), {"users": torch.tensor(case.batch)}), "tables": tables, "epoch": 0, "step": 0},
        )
        assert method._regulariser(made)[1].item() == pytest.approx(case.order_kept)

    def test_published_values_of_the_two_regularisers(self):
        post, pre = double([[1.0, 0.2, -0.5]]), double([[0.3, 0.5, -0.1]])
        assert list_consistency(pre, post, 0.5).item() == pytest.approx(1.494367541012861, rel=1e-13)
        assert pair_consistency(pre, post).item() == pytest.approx(0.7763437730407396, rel=1e-13)
        assert order_kept(pre, post, torch.ones(1)).item() == pytest.approx(2 / 3)

    def test_consistency_of_nothing_and_of_huge_scores(self):
        none = torch.full((2, 3), -torch.inf)
        assert list_consistency(none, none, 0.1).tolist() == [0.0, 0.0]
        assert pair_consistency(none, none).tolist() == [0.0, 0.0]
        assert order_kept(none, none, torch.ones(2)).item() == 1.0
        huge = torch.tensor([[1e4, -1e4]], requires_grad=True)
        for value in (list_consistency(-huge.detach(), huge, 0.01), pair_consistency(-huge.detach(), huge)):
            (gradient,) = torch.autograd.grad(value.sum(), huge)
            assert torch.isfinite(value).all()
            assert torch.isfinite(gradient).all()

    @pytest.mark.parametrize("guide", ["student", "teacher"])
    @pytest.mark.parametrize("regulariser", ["list", "pair", "hybrid"])
    def test_the_regulariser_trains_projectors_and_not_the_student(self, regulariser, guide):
        world = self.started(regulariser=regulariser, guide=guide)
        step = world.batch(np.arange(40))
        made = type("S", (), {"batch": step, "tables": world.student.tables(), "epoch": 0, "step": 0})()
        value, kept = world.method._regulariser(made)
        value.backward()
        assert all(p.grad is None for p in world.student.parameters())
        assert all(p.grad is not None for p in world.method.modules()["experts"].parameters())
        assert 0 <= kept.item() <= 1

    def test_training_the_regulariser_alone_makes_projectors_keep_the_order(self):
        world = self.started(alpha=50.0, top=30, listed=8, guide="teacher")
        batch, kept = world.batch(np.arange(world.train.nnz)), []
        optimizer = torch.optim.Adam(world.method.modules()["experts"].parameters(), lr=0.02)
        for step in range(60):
            parts = world.loss(batch, step=step)
            optimizer.zero_grad()
            parts.kd.backward()
            optimizer.step()
            kept.append(parts.parts["pckd_order_kept"].item())
        assert np.mean(kept[-5:]) > np.mean(kept[:5]) + 0.1

    def test_a_guides_list_covers_all_items_and_a_students_stays_for_a_window(self):
        teacher = self.started(guide="teacher")
        assert torch.equal(teacher.method._top.long(), teacher.teacher.lists(10, None).ids)
        world = self.started()
        tables = world.student.frozen_tables()
        users, items = tables.users.clone(), tables.items.clone()
        first = (users @ items.T).topk(10).indices
        assert torch.equal(world.method._top.long(), first)
        with torch.no_grad():
            world.student.user_embedding.neg_()
        world.method.begin_epoch(1, world.student)
        assert torch.equal(world.method._top.long(), first)
        world.method.begin_epoch(2, world.student)
        assert torch.equal(world.method._top.long(), (-users @ items.T).topk(10).indices)

    def test_the_choice_of_experts_hardens_in_both_terms(self):
        world = self.started()
        batch = world.batch(np.arange(30))
        first, late = (world.loss(batch, epoch=epoch).parts for epoch in (0, 5))
        for name in ("pckd_users", "pckd_items", "pckd_regulariser"):
            assert first[name] != late[name], name

    def test_the_order_kept_is_that_of_the_list_where_there_is_one(self):
        worlds = [self.started(regulariser=regulariser) for regulariser in ("list", "hybrid", "pair")]
        kept = [world.loss(world.batch(np.arange(60))).parts["pckd_order_kept"].item() for world in worlds]
        assert kept[0] == kept[1] != kept[2]

    def test_draws_come_from_the_guides_best_and_favour_its_head(self):
        world = self.world(guide="teacher", top=10)
        counts = np.zeros(10)
        top = world.teacher.lists(10, None).ids
        for epoch in range(40):
            world.method.begin_epoch(epoch, world.student)
            lists = world.method._lists.long()
            assert all(len(set(row.tolist())) == 3 for row in lists)
            counts += (lists[:, :, None] == top[:, None, :]).sum((0, 1)).numpy()
        assert counts.sum() == 40 * 29 * 3
        assert (np.diff(counts[::3]) < 0).all()

    def test_the_items_of_a_hybrid_pair_are_one_of_the_best_and_a_uniform_one(self):
        world = self.world(regulariser="hybrid", guide="teacher", top=10, listed=3, sharpness=5.0)
        drawn, places = [], np.zeros(10)
        for epoch in range(60):
            world.method.begin_epoch(epoch, world.student)
            drawn.append(world.method._pairs[:, 1].numpy())
            at = (world.method._top == world.method._pairs[:, :1]).nonzero()
            assert len(at) == 29
            places += np.bincount(at[:, 1].numpy(), minlength=10)
        # Chi-square with 9 degrees of freedom: its 0.999 quantile is 27.9. The better of two draws has 2 p_1 first.
        wanted = np.exp(-np.arange(1, 11) / 5.0)
        wanted *= places.sum() / wanted.sum()
        assert ((places - wanted) ** 2 / wanted).sum() < 27.9
        counts = np.bincount(np.concatenate(drawn), minlength=47)
        # Chi-square with 46 degrees of freedom: its 0.999 quantile is 81.
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 81

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"listed": 1}, "listed must be at least 2, got 1"),
            ({"listed": 20, "top": 10}, "top must be at least 20, got 10"),
            ({"guide": "both"}, "guide: 'both' is not allowed. One of: student, teacher"),
            ({"regulariser": "all"}, "regulariser: 'all'"),
            ({"list_temperature": 0.0}, r"list_temperature must be a positive number, got 0\.0"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("pckd", options, Seeds(0))
