from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import prepared
from tests.distillation.golden_numbers import compare, golden


class TestFTD(MethodContract):
    name = "ftd"
    options: ClassVar = {"weight": 0.05}
    sources = ("model", "embeddings")
    draws = False

    def test_golden_numbers(self):
        case = golden("ftd")
        compare(prepared("ftd", case), case)
        compare_mean = prepared("ftd", case, reduction="mean")
        scale = case.entities**2
        shrunk = golden("ftd")
        shrunk.d_users, shrunk.d_items = (np.array(g) / scale for g in (case.d_users, case.d_items))
        compare(compare_mean, shrunk, loss=case.loss / scale)

    def test_an_item_that_is_positive_and_negative_counts_once(self):
        world = self.started()
        batch = world.batch(np.arange(20))
        again = type(batch)(batch.entries, batch.users, batch.positives, batch.positives[:, None])
        once = world.loss(again).kd.item()
        ids = torch.unique(batch.positives)
        rows = torch.cat([world.student.user_embedding[torch.unique(batch.users)], world.student.item_embedding[ids]])
        wide = world.teacher.tables()
        teacher = torch.cat([wide.users[torch.unique(batch.users)], wide.items[ids]])
        gap = torch.cosine_similarity(teacher[:, None], teacher[None], dim=2)
        gap = gap - torch.cosine_similarity(rows[:, None], rows[None], dim=2)
        assert once == pytest.approx(0.05 * gap.square().sum().item(), rel=1e-4)
