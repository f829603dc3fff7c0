from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from fastkd import Seeds
from fastkd.core.errors import ConfigError
from fastkd.distillation import build_method
from fastkd.distillation._projectors import Draw, OrthogonalMap, Projector
from tests.contracts.method_contract import MethodContract
from tests.distillation.feature_golden import load, part, prepared
from tests.distillation.golden_numbers import compare, golden


class TestHint(MethodContract):
    name = "hint"
    options: ClassVar = {"weight": 0.05, "hidden_ratio": 2.0}
    sources = ("model", "embeddings")
    own_modules = True

    def test_golden_numbers(self):
        case = golden("hint")
        method = prepared("hint", case, entities="batch", dropout=0.0, hidden_ratio=1.0)
        for kind in ("user", "item"):
            load(method._projectors[kind], case.nets[kind])
        compare(method, part(case, "mlp"))

    def test_golden_numbers_of_the_linear_form_centred_and_normalised(self):
        case = golden("hint")
        method = prepared("hint", case, entities="batch", projector="linear", normalize=True, center=True)
        for kind in ("user", "item"):
            load(method._projectors[kind], case.maps[kind])
        compare(method, part(case, "linear"))

    def test_uniform_entities_are_distinct_and_cover_the_table_over_steps(self):
        world = self.started()
        batch, seen = world.batch(np.arange(10)), set()
        for step in range(30):
            made = type("S", (), {"batch": batch, "tables": world.student.tables(), "step": step})()
            ids, weights = world.method._entities("item", made)
            assert len(ids) == len(weights) == len(set(ids.tolist())) == 10
            seen |= set(ids.tolist())
        assert seen == set(range(47))

    def test_a_table_smaller_than_the_batch_is_taken_whole(self):
        world = self.started()
        made = type("S", (), {"batch": world.batch(np.arange(60)), "tables": world.student.tables(), "step": 0})()
        assert world.method._entities("user", made).ids.tolist() == list(range(29))

    @pytest.mark.parametrize("projector", ["linear", "orthogonal"])
    @pytest.mark.parametrize("entities", ["uniform", "batch"])
    def test_other_projectors_learn(self, projector, entities):
        world = self.world(projector=projector, entities=entities, center=True)
        losses = world.fit(world.optimizer(), range(3))
        assert losses[-1] < losses[0]

    @pytest.mark.parametrize(("narrow", "wide"), [(3, 8), (8, 3), (4, 4)])
    def test_the_orthogonal_map_is_orthonormal_and_stays_so(self, narrow, wide):
        world = OrthogonalMap(narrow, wide, Seeds(0))
        for _ in range(2):
            weight = world.weight()
            assert weight.shape == (wide, narrow)
            gram = weight.T @ weight if wide >= narrow else weight @ weight.T
            torch.testing.assert_close(gram, torch.eye(min(narrow, wide)), rtol=1e-4, atol=1e-5)
            weight.square().sum().backward()
            with torch.no_grad():
                world.free += torch.ones_like(world.free)

    def test_each_step_drops_other_values(self):
        for dropout in (0.2, 0.0):
            world = self.started(entities="batch", dropout=dropout)
            batch = world.batch(np.arange(20))
            one, again, other = (world.loss(batch, step=step).kd.item() for step in (0, 0, 1))
            assert one == again
            assert (one != other) is (dropout > 0)

    def test_projectors_are_what_the_options_say_and_one_for_each_kind(self):
        wide = self.world(hidden_ratio=2.5).method._projectors
        assert wide["user"].w1.shape == (1, 20, 3)
        assert not torch.equal(wide["user"].w1, wide["item"].w1)
        assert self.world(projector="linear").method._projectors["item"].bias is not None
        assert self.world(projector="linear", bias=False).method._projectors["item"].bias is None

    @pytest.mark.parametrize("entities", ["uniform", "batch"])
    def test_weights_of_a_mean_sum_to_one(self, entities):
        world = self.started(entities=entities, reduction="mean")
        made = type("S", (), {"batch": world.batch(np.arange(20)), "tables": world.student.tables(), "step": 0})()
        for kind in ("user", "item"):
            assert world.method._entities(kind, made).weights.sum().item() == pytest.approx(1.0)

    def test_averaged_nets_drop_inputs_apart(self):
        class Noting:
            names: ClassVar = []

            def dropout(self, x, rate, name):
                self.names.append(name)
                return x

        Projector(3, 8, 4, Seeds(0), experts=2, dropout=0.5)(torch.ones(5, 3), Noting())
        assert len(set(Noting.names)) == 3, "two inputs, and the hidden units of both"

    def test_dropout_is_an_entitys_own(self):
        draw = Draw(Seeds(0), 3, torch.tensor([5, 2, 9]))
        found = draw.dropout(torch.ones(3, 50), 0.2, "0/in")
        alone = draw._replace(rows=torch.tensor([9])).dropout(torch.ones(1, 50), 0.2, "0/in")
        assert torch.equal(found[2:], alone)
        for other in (draw._replace(step=4), draw._replace(seeds=Seeds(1))):
            assert not torch.equal(other.dropout(torch.ones(3, 50), 0.2, "0/in"), found)
        assert not torch.equal(draw.dropout(torch.ones(3, 50), 0.2, "0/hidden"), found)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1\.0"),
            ({"projector": "conv"}, "'conv' is not allowed. One of: mlp, linear, orthogonal"),
            ({"entities": "all"}, "entities: 'all'"),
            ({"hidden_ratio": 0.0}, "hidden_ratio must be a positive number"),
        ],
    )
    def test_impossible_options(self, options, message):
        with pytest.raises(ConfigError, match=message):
            build_method("hint", options, Seeds(0))
