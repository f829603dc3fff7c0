from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds, ops
from fastkd.core.errors import CheckpointError, ConfigError, DataError
from fastkd.distillation import build_method
from fastkd.models import Tables
from tests.contracts.method_contract import MethodContract
from tests.contracts.method_world import bpr
from tests.distillation.golden_numbers import compare, golden, ids


def bce(scores: np.ndarray, given: np.ndarray, temperature: float) -> np.ndarray:
    target = 1.0 / (1.0 + np.exp(-given / temperature))
    probability = 1.0 / (1.0 + np.exp(-scores))
    return -(target * np.log(probability) + (1.0 - target) * np.log(1.0 - probability))


class TestBD(MethodContract):
    name = "bd"
    options: ClassVar = {
        "update": 2, "weight": 0.7, "teacher_weight": 0.3, "negatives": 2, "base_negatives": "drawn",
    }  # fmt: skip
    sources = ("model",)
    own_modules = True
    refuses_full_users = True
    trains_teacher = True

    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    def test_loss_is_the_published_one_in_both_directions(self, reduction):
        world = self.started(reduction=reduction, student_temperature=2.0)
        batch = world.batch(np.arange(5, 90))
        student, teacher = world.student.frozen_tables(), world.teacher.tables()
        scores = [(t.users.double() @ t.items.double().T).numpy() for t in (student, teacher)]
        users = batch.users.unsqueeze(1).numpy()
        of_student, of_teacher = batch.negatives.numpy(), world.method._teacher_items.numpy()[batch.entries]
        to_student = bce(scores[0][users, of_student], scores[1][users, of_student], 5.0).sum(1)
        to_teacher = bce(scores[1][users, of_teacher], scores[0][users, of_teacher], 2.0).sum(1)
        items = torch.from_numpy(of_teacher).long()
        base = bpr(teacher, type(batch)(batch.entries, batch.users, batch.positives, items)).item()
        reduce = np.sum if reduction == "sum" else np.mean
        found = world.loss(batch)
        assert found.kd.item() == pytest.approx(0.7 * reduce(to_student) + base + 0.3 * reduce(to_teacher), rel=1e-5)
        assert set(found.parts) == {"bd_to_student", "bd_to_teacher", "teacher_base"}

    def test_golden_numbers(self):
        case = golden("bd")
        method = self.started(
            weight=case.weight,
            teacher_weight=case.teacher_weight,
            student_temperature=case.student_temperature,
            teacher_temperature=case.teacher_temperature,
            base_negatives="uniform",
        ).method
        users, items = (
            torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (case.teacher_users, case.teacher_items)
        )
        method._teacher = SimpleNamespace(tables=lambda: Tables(users, items))
        method._student_items, method._teacher_items = ids(case.to_student), ids(case.to_teacher)
        compare(method, case, base_loss=bpr)
        np.testing.assert_allclose(users.grad.numpy(), case.d_teacher_users, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(items.grad.numpy(), case.d_teacher_items, rtol=1e-9, atol=1e-12)

    def test_uniform_negatives_are_the_trainers_and_both_sides_share_them(self):
        world = self.started(base_negatives="uniform")
        assert world.method.negatives(0) is None
        drawn = world.batch(np.arange(40))
        random = torch.randint(world.train.num_items, (40, 3), generator=Seeds(4).torch("negatives"))
        batch = type(drawn)(drawn.entries, drawn.users, drawn.positives, random)
        wanted = bpr(world.teacher.tables(), batch).item()
        assert world.loss(batch).parts["teacher_base"].item() == pytest.approx(wanted, rel=1e-5)
        # What is distilled does not depend on the negatives of the base loss.
        other = type(drawn)(drawn.entries, drawn.users, drawn.positives, random.flip(0))
        assert torch.equal(world.loss(batch).parts["bd_to_student"], world.loss(other).parts["bd_to_student"])

    def test_each_side_is_taught_and_neither_through_the_other(self):
        world = self.started(weight=0.0)
        world.loss(world.batch(np.arange(30))).kd.backward()
        assert all(p.grad is None or p.grad.abs().sum() == 0 for p in world.student.parameters())
        assert all(p.grad.abs().sum() > 0 for p in world.method.modules()["teacher"].parameters())

    def test_the_teacher_in_training_starts_as_the_given_one(self):
        world = self.world(teacher_lr=0.5, teacher_weight_decay=0.25)
        copy = world.method.modules()["teacher"]
        assert copy is not world.teacher.model
        assert torch.equal(copy.tables().users, world.teacher.tables().users)
        (group,) = world.method.optimizer_groups()
        assert (group.lr, group.weight_decay) == (0.5, 0.25)
        world.fit(world.optimizer(), range(1))
        assert not torch.equal(copy.tables().users, world.teacher.tables().users)

    def test_draws_are_unseen_items_of_their_user(self):
        world = self.started()
        owners = np.repeat(world.train.entry_users(), 2)
        for epoch in (0, 1):
            world.method.begin_epoch(epoch, world.student)
            for drawn in (world.method.negatives(epoch), world.method._teacher_items.numpy()):
                assert drawn.shape == (world.train.nnz, 2)
                assert drawn.dtype == np.int32
                assert drawn.min() >= 0
                assert not world.train.contains(owners, drawn.ravel()).any()

    def test_rankings_are_read_again_every_update_epochs(self):
        world = self.world(update=2)
        world.method.begin_epoch(0, world.student)
        window = world.method.state_dict()["teacher_to_student"].copy()
        assert window.shape == (2, world.train.nnz, 2)
        assert not np.array_equal(window[0], window[1])
        with torch.no_grad():
            world.student.item_embedding.normal_(generator=Seeds(9).torch("other"))
        world.method.begin_epoch(1, world.student)
        assert np.array_equal(world.method.negatives(1), window[1])
        world.method.begin_epoch(2, world.student)
        assert not np.array_equal(world.method.state_dict()["teacher_to_student"], window)

    def test_a_window_has_draws_of_its_own_though_nobody_learned(self):
        world = self.started()
        first = {name: drawn.copy() for name, drawn in world.method.state_dict().items()}
        world.method.begin_epoch(2, world.student)
        second = world.method.state_dict()
        assert [name for name in first if np.array_equal(first[name], second[name])] == []

    def test_a_refresh_is_foreseen_and_reported(self):
        world = self.world(update=2)
        told, seen = [], world.method.outlook(world.teacher, world.student, world.train, device="cpu")
        assert (seen.every, seen.backend) == (2, "numba")
        assert seen.seconds > 0
        assert f"of {world.train.num_users} users out of {world.train.num_items} items" in seen.what
        world.method.progress = lambda *state: told.append(state)
        world.method.begin_epoch(0, world.student)
        whole = 2 * world.train.num_users
        assert told[0] == ("drawing by rank", 0, whole)
        assert told[-1] == ("drawing by rank", whole, whole)
        assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})

    @pytest.mark.parametrize("sign", [1, -1])
    def test_learners_meet_items_that_they_misplace(self, sign):
        world = self.started(rank_sign=sign, epsilon_teacher=50.0, negatives=3)
        ranks = []
        for tables in (world.student.frozen_tables(), world.teacher.tables()):
            scores = tables.users @ tables.items.T
            scores[world.train.entry_users(), world.train.indices] = -torch.inf
            ranks.append(scores.argsort(dim=1, descending=True).argsort(dim=1).numpy())
        users = world.train.entry_users()[:, None]
        to_student, to_teacher = world.method.negatives(0), world.method._teacher_items.numpy()
        gap = sign * (ranks[0] - ranks[1])
        # The student's share is 0 where the gap is not positive; the teacher's only leans the other way.
        assert (gap[users, to_student] > 0).all()
        assert gap[users, to_teacher].mean() < -5

    def test_each_learner_has_its_own_epsilon(self, monkeypatch):
        seen, draw = {}, ops.sample_rank_discrepancy

        def noting(**given):
            seen[given["direction"]] = given["epsilon"] * 47
            return draw(**given)

        monkeypatch.setattr(ops, "sample_rank_discrepancy", noting)
        self.started(epsilon_student=9.0, epsilon_teacher=4.0)
        assert seen == pytest.approx({"teacher_to_student": 9.0, "student_to_teacher": 4.0})

    def test_negatives_before_their_epoch_are_refused(self):
        world = self.world()
        with pytest.raises(ValueError, match="no draws for epoch 0: call begin_epoch"):
            world.method.negatives(0)
        world.method.begin_epoch(0, world.student)
        with pytest.raises(ValueError, match="no draws for epoch 7"):
            world.method.negatives(7)

    def test_a_user_who_has_seen_everything_is_refused_by_name(self):
        train = Interactions.from_pairs([0, 1, 1, 1], [1, 0, 1, 2], num_users=2, num_items=3)
        with pytest.raises(DataError, match="user 1 has seen all 3 items"):
            self.world(train=train)

    def test_state_of_another_shape_is_refused(self):
        state = self.started().method.state_dict()
        with pytest.raises(CheckpointError, match=r"expected draws of shape \[3, 174, 2\], got \[2, 174, 2\]"):
            self.world(update=3).method.load_state_dict(state)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"rank_sign": 0}, "rank_sign: 0 is not allowed"),
            ({"update": 0}, "update must be at least 1, got 0"),
            ({"teacher_temperature": 0.0}, r"teacher_temperature must be a positive number, got 0\.0"),
            ({"epsilon_student": -1.0}, r"epsilon_student must be a positive number, got -1\.0"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("bd", options, Seeds(0))
