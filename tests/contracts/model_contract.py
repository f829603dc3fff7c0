"""What a model of one vector per user and item holds beyond every recommender; its tests inherit it and name it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError
from fastkd.models import ModelConfig, Recommender, build_model
from tests.contracts.interactions import random_interactions
from tests.contracts.recommender_contract import RecommenderContract


class ModelContract(RecommenderContract):
    """Inherit, set ``name`` and ``init_std``."""

    init_std: float
    beats = 0.2

    def build(self, train: Interactions, seed: int = 3, **options: object) -> Recommender:
        return build_model(ModelConfig(name=self.name, **{"dim": 7, **options}), train, Seeds(seed))

    def test_tables_have_the_shape_of_the_data(self, train):
        model = self.build(train)
        tables = model.tables()
        assert tables.users.shape == (23, 7)
        assert tables.items.shape == (37, 7)
        assert (model.num_users, model.num_items, model.dim) == (23, 37, 7)
        assert tables.users.dtype == tables.items.dtype == torch.float32

    def test_init_has_the_published_spread(self):
        train = random_interactions(500, 700)
        for given, wanted in ((None, self.init_std), (0.3, 0.3)):
            model = self.build(train, dim=32, init_std=given)
            for parameter in model.parameters():
                # 16000 draws: the standard error of the spread is 0.6 %.
                assert parameter.std().item() == pytest.approx(wanted, rel=0.03)
                assert abs(parameter.mean().item()) < 4 * wanted / np.sqrt(parameter.numel())

    def test_gradient_reaches_every_parameter(self, train):
        model = self.build(train)
        tables = model.tables()
        (tables.users.square().sum() + 3.0 * tables.items.sum()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    def test_gradient_matches_float64_differences(self, train):
        model = self.build(train, dim=2, init_std=0.5).double()
        parameters = list(model.parameters())
        weights = [torch.randn(n, 2, dtype=torch.float64, generator=Seeds(0).torch("w", n)) for n in (23, 37)]

        def loss(*values: torch.Tensor) -> torch.Tensor:
            tables = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (), strict=False)
            return (tables.users * weights[0]).sum() + (tables.items * weights[1]).tanh().sum()

        names = [f"inner.{name}" for name, _ in model.named_parameters()]
        model = _CallTables(model)
        assert torch.autograd.gradcheck(loss, [p.detach().requires_grad_(True) for p in parameters])

    @pytest.mark.parametrize("training", [True, False])
    def test_frozen_tables_are_the_same_values_without_a_graph(self, train, training):
        model = self.build(train).train(training)
        frozen, live = model.frozen_tables(), model.tables()
        assert not frozen.users.requires_grad
        assert not frozen.items.requires_grad
        assert torch.equal(frozen.users, live.users)
        assert torch.equal(frozen.items, live.items)
        assert model.training is training

    def test_count_of_parameters(self, train):
        assert self.build(train).num_parameters() == (23 + 37) * 7

    def test_no_interactions_at_all(self):
        model = self.build(Interactions.empty(2, 3))
        tables = model.tables()
        (tables.users.sum() + tables.items.sum()).backward()
        assert torch.isfinite(tables.users).all()

    @pytest.mark.parametrize(
        ("key", "value"), [("dim", 0), ("layers", -1), ("init_std", -0.5), ("init_std", float("nan"))]
    )
    def test_impossible_sizes_are_refused_by_value(self, train, key, value):
        with pytest.raises(ConfigError, match=rf"{key}.*{value}"):
            self.build(train, **{key: value})


class _CallTables(torch.nn.Module):
    def __init__(self, inner: Recommender) -> None:
        super().__init__()
        self.inner = inner

    def forward(self) -> object:
        return self.inner.tables()
