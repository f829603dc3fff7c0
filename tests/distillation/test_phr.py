from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method
from fastkd.distillation.phr import enriched
from fastkd.models import Tables
from tests.contracts.interactions import random_interactions
from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import load, part, prepared
from tests.distillation.golden_numbers import compare, golden


class TestPHR(MethodContract):
    name = "phr"
    options: ClassVar = {"weight": 0.05}
    sources = ("model", "embeddings")
    own_modules = True

    @pytest.mark.parametrize(("form", "options"), [("full", {}), ("low", {"rank": 1})])
    def test_golden_numbers(self, form, options):
        case = golden("phr")
        case.pairs_seen = case.pairs
        method = prepared("phr", case, hidden=4, **options)
        exact = method._teacher
        train = self.train_of(case)
        contexts = (enriched(exact.users, exact.items, train), enriched(exact.items, exact.users, train.transpose()))
        torch.testing.assert_close(contexts[0].float(), method._contexts.users)
        torch.testing.assert_close(contexts[1].float(), method._contexts.items)
        method._contexts = Tables(*contexts)
        for kind in ("user", "item"):
            load(method._networks[kind], getattr(case, f"{form}_nets")[kind])
        compare(method, part(case, form))

    def train_of(self, case):
        return Interactions.from_pairs(*zip(*case.pairs, strict=True), num_users=4, num_items=6)

    def test_default_widths_and_the_options_of_the_authors_code(self):
        config = build_method("phr", {}, Seeds(0)).config
        assert config.weights(20, 200) == (2100, 4000)
        assert build_method("phr", {"rank": 3, "hidden": 7}, Seeds(0)).config.weights(20, 200) == (7, 660)
        world = self.started(shared=True, enriched=False)
        assert list(world.method.modules()["networks"]) == ["shared"]
        torch.testing.assert_close(world.method._contexts.items, world.teacher.tables().items)

    def test_users_and_items_have_networks_of_their_own(self):
        networks = self.world().method._networks
        assert not torch.equal(networks["user"].w1, networks["item"].w1)

    def test_an_entity_that_nobody_met_keeps_its_own_vector(self):
        train = random_interactions(5, 40, 2)
        own, others = torch.randn(40, 3), torch.randn(5, 3)
        found = enriched(own, others, train.transpose())
        alone = torch.from_numpy(train.item_counts() == 0)
        assert alone.any()
        assert torch.equal(found[alone], own[alone])
        assert not torch.equal(found[~alone], own[~alone])

    @pytest.mark.parametrize(
        ("options", "message"), [({"rank": 0}, "rank must be at least 1, got 0"), ({"hidden": 0}, "hidden")]
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("phr", options, Seeds(0))
