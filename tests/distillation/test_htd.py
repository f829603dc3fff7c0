from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method
from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import give_experts, part, prepared
from tests.distillation.golden_numbers import compare, golden


class TestHTD(MethodContract):
    name = "htd"
    options: ClassVar = {"experts": 4, "weight": 0.05}
    sources = ("model", "embeddings")
    own_modules = True

    @pytest.mark.parametrize("pairs", ["paper", "code"])
    def test_golden_numbers(self, pairs):
        case = golden("htd")
        method = prepared("htd", case, experts=2, gamma=case.gamma, temperature_start=case.tau, pairs=pairs)
        give_experts(method, case)
        compare(method, part(case, pairs))
        assert len(set(case.groups)) > 2

    def test_only_the_regression_trains_the_selection_nets(self):
        world = self.started(gamma=1.0)
        world.loss(world.batch(np.arange(40))).kd.backward()
        for kind in ("user", "item"):
            experts = world.method._experts[kind]
            assert experts.selection.grad is None or experts.selection.grad.abs().sum() == 0
        assert world.student.item_embedding.grad.abs().sum() > 0

    def test_gradient_through_prototypes_is_an_option(self):
        gradients = []
        for flows in (False, True):
            world = self.started(gamma=1.0, prototype_gradient=flows)
            world.loss(world.batch(np.arange(40))).kd.backward()
            gradients.append(world.student.item_embedding.grad.clone())
        assert not np.allclose(*gradients)

    def test_a_group_is_that_of_the_preferred_expert(self):
        world = self.world()
        experts, teacher = world.method._experts["user"], world.teacher.tables().users
        preferred = (teacher @ experts.selection.T + experts.selection_bias).argmax(1)
        assert torch.equal(experts.groups(teacher), preferred)
        assert len(set(preferred.tolist())) > 2

    def test_means_are_over_entities_and_over_pairs(self):
        sums, means = (self.started(experts=1, reduction=r) for r in ("sum", "mean"))
        batch = sums.batch(np.arange(30))
        users, items = len(batch.users.unique()), len(torch.cat([batch.positives, *batch.negatives.T]).unique())
        found = [world.loss(batch).parts for world in (sums, means)]
        pairs = {"htd_groups": users + items, "htd_entities": users**2 + items**2}
        for name, count in pairs.items():
            assert found[1][name].item() == pytest.approx(found[0][name].item() / count, rel=1e-5)

    def test_the_choice_of_experts_hardens_and_groups_do_not_see_it(self):
        world = self.started()
        batch = world.batch(np.arange(30))
        first, late = (world.loss(batch, epoch=epoch).parts for epoch in (0, 5))
        assert first["htd_regression"] != late["htd_regression"]
        assert first["htd_groups"] == late["htd_groups"]

    def test_one_expert_is_one_group_of_each_kind(self):
        world = self.started(experts=1)
        kd = world.loss(world.batch(np.arange(30)))
        kd.kd.backward()
        assert kd.parts["htd_groups"] > 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"gamma": 1.5}, r"gamma must be in \[0, 1\], got 1\.5"),
            ({"pairs": "all"}, "pairs: 'all' is not allowed. One of: paper, code"),
            ({"experts": 0}, "experts must be at least 1, got 0"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("htd", options, Seeds(0))
