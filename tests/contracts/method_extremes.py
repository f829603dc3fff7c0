"""What no method may break on: huge and equal scores, lists of one item, users and batches with nothing left."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional

from fastkd import Interactions
from fastkd.core.errors import DataError
from fastkd.models import ModelTeacher, Recommender
from tests.contracts.interactions import random_interactions


def scale_scores(model: Recommender, scale: float) -> None:
    """Give every vector the length with which scores are of about ``scale``."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(functional.normalize(parameter, dim=1) * scale**0.5)


class MethodExtremes:
    """Part of the method contract."""

    refuses_full_users: ClassVar[bool] = False
    """Whether a user who has seen the whole catalogue is an error."""
    world: Any
    started: Any
    teach: Any

    @pytest.mark.parametrize("reduction", ["sum", "mean"])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_huge_and_equal_scores_stay_finite(self, scale, reduction):
        world = self.started(reduction=reduction)
        scale_scores(world.student, scale)
        kd = world.loss(world.batch(np.arange(50))).kd
        kd.backward()
        assert torch.isfinite(kd)
        assert all(torch.isfinite(p.grad).all() for p in world.student.parameters())

    @pytest.mark.parametrize("scale", [0.0, 1e4])
    def test_a_teacher_of_huge_or_equal_scores(self, scale):
        data = random_interactions(29, 47, 6)
        teacher = self.teach(data)
        scale_scores(teacher.model, scale)
        world = self.world(train=data, teacher=ModelTeacher(teacher.model))
        assert np.isfinite(world.fit(world.optimizer(), range(2))).all()
        assert all(torch.isfinite(p).all() for p in world.student.parameters())

    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_lists_of_one_item(self, scale):
        users = np.arange(12)
        train = Interactions.from_pairs(users, users % 2, num_users=12, num_items=2)
        world = self.world(train=train)
        scale_scores(world.student, scale)
        assert np.isfinite(world.fit(world.optimizer(), range(2))).all()
        assert all(torch.isfinite(p).all() for p in world.student.parameters())

    def test_everything_is_masked(self):
        users, items = np.nonzero(np.ones((6, 9)))
        train = Interactions.from_pairs(users, items, num_users=6, num_items=9)
        if self.refuses_full_users:
            with pytest.raises(DataError, match="user 0 has seen all 9 items"):
                self.world(train=train)
            return
        world = self.world(train=train)
        world.method.begin_epoch(0, world.student)
        kd = world.loss(world.batch(np.arange(30))).kd
        kd.backward()
        assert torch.isfinite(kd)
        grads = [p.grad for p in world.student.parameters() if p.grad is not None]
        assert all(torch.isfinite(g).all() for g in grads)

    def test_a_batch_of_one_row(self):
        world = self.started()
        kd = world.loss(world.batch([5])).kd
        kd.backward()
        assert torch.isfinite(kd)

    def test_users_with_almost_everything_seen(self):
        random = np.random.default_rng(0)
        rows = [np.arange(12) != left for left in range(12)] + [random.random(12) < 0.5 for _ in range(3)]
        users, items = np.nonzero(np.stack(rows))
        train = Interactions.from_pairs(users, items, num_users=15, num_items=12)
        world = self.world(train=train)
        losses = world.fit(world.optimizer(), range(2))
        assert np.isfinite(losses).all()

    def test_a_user_who_has_seen_everything(self):
        users, items = np.nonzero(np.arange(12) < np.array([[12], [4], [6], [12], [5]]))
        train = Interactions.from_pairs(users, items, num_users=5, num_items=12)
        if self.refuses_full_users:
            with pytest.raises(DataError, match="user 0 has seen all 12 items"):
                self.world(train=train)
            return
        world = self.world(train=train)
        assert np.isfinite(world.fit(world.optimizer(), range(2))).all()
