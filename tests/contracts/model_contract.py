"""What every recommender must hold; a model's tests inherit it and name the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fastkd import Interactions, Seeds
from fastkd.core.errors import ConfigError
from fastkd.models import ModelConfig, Recommender, build_model


def random_interactions(num_users: int = 23, num_items: int = 37, per_user: int = 5, seed: int = 0) -> Interactions:
    """Interactions with distinct items per user; the last item belongs to nobody."""
    random = np.random.default_rng(seed)
    items = np.argsort(random.random((num_users, num_items - 1)), axis=1)[:, :per_user]
    users = np.repeat(np.arange(num_users), per_user)
    return Interactions.from_pairs(users, items.ravel(), num_users=num_users, num_items=num_items)


class ModelContract:
    """Inherit, set ``name``."""

    name: str
    init_std: float

    @pytest.fixture
    def train(self) -> Interactions:
        return random_interactions()

    def build(self, train: Interactions, seed: int = 3, **options: object) -> Recommender:
        return build_model(ModelConfig(name=self.name, **{"dim": 7, **options}), train, Seeds(seed))

    def test_tables_have_the_shape_of_the_data(self, train):
        model = self.build(train)
        tables = model.tables()
        assert tables.users.shape == (23, 7)
        assert tables.items.shape == (37, 7)
        assert (model.num_users, model.num_items, model.dim) == (23, 37, 7)
        assert tables.users.dtype == tables.items.dtype == torch.float32

    def test_init_is_a_function_of_the_seeds(self, train):
        torch.manual_seed(1)
        first = self.build(train).state_dict()
        torch.manual_seed(2)
        torch.rand(10)
        again, other = self.build(train).state_dict(), self.build(train, seed=4).state_dict()
        for name, value in first.items():
            assert torch.equal(value, again[name])
            assert not torch.equal(value, other[name])

    def test_building_leaves_the_global_generators_alone(self, train):
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        self.build(train)
        assert torch.equal(torch_state, torch.get_rng_state())
        assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002

    def test_init_has_the_published_spread(self):
        train = random_interactions(500, 700)
        for given, wanted in ((None, self.init_std), (0.3, 0.3)):
            model = self.build(train, dim=32, init_std=given)
            for parameter in model.parameters():
                # 16000 draws: the standard error of the spread is 0.6 %.
                assert parameter.std().item() == pytest.approx(wanted, rel=0.03)
                assert abs(parameter.mean().item()) < 4 * wanted / np.sqrt(parameter.numel())

    def test_users_and_items_start_apart(self, train):
        parameters = [p.detach() for p in self.build(train).parameters()]
        assert not torch.equal(parameters[0][:23], parameters[1][:23])

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

    def test_state_survives_safetensors(self, train):
        model, other = self.build(train), self.build(train, seed=9)
        other.load_state_dict(load(save(model.state_dict())))
        assert torch.equal(model.tables().users, other.tables().users)
        assert torch.equal(model.tables().items, other.tables().items)

    def test_state_holds_parameters_only(self, train):
        model = self.build(train)
        assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}

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

    def test_users_and_items_without_interactions_stay_finite(self):
        train = Interactions.from_pairs([0], [2], num_users=3, num_items=5)
        tables = self.build(train).tables()
        assert torch.isfinite(tables.users).all()
        assert torch.isfinite(tables.items).all()

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
