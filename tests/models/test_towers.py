from __future__ import annotations

import pytest
import torch

from fastkd.models.towers import HistoryTower
from tests.serving.student_cases import PAIRS, TRAIN, VECTORS, model_of, request

ALL = list(range(TRAIN.num_users))
WEIGHTS = {
    "bpr_mf": {"table"},
    "lightgcn": {"table"},
    "cdae": {"user_table", "item_table", "hidden_bias"},
    "simplex": {"user_table", "item_table", "mix.weight"},
}


def made(model):
    return model.pair_scorer() if hasattr(model, "pair_scorer") else model.user_tower()


def asked(name):
    return (torch.tensor(ALL), torch.arange(37).expand(23, -1)) if name in PAIRS else request(name, ALL)


@pytest.mark.parametrize("name", VECTORS + PAIRS)
def test_a_tower_is_what_the_frozen_model_says(name):
    model = model_of(name)
    frozen, tower = model.frozen_tables(), made(model)
    wanted = frozen.scores(*asked(name)) if name in PAIRS else frozen.users
    torch.testing.assert_close(tower(*asked(name)), wanted, rtol=1e-5, atol=1e-6)
    assert list(tower.shapes) == list(tower.meanings)
    assert [len(shape) for shape in tower.shapes.values()] == [x.ndim for x in asked(name)]


@pytest.mark.parametrize("name", VECTORS + PAIRS)
def test_a_tower_is_a_copy_in_eval_mode_that_learns_nothing(name):
    model = model_of(name)
    tower = made(model)
    before = tower(*asked(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert model.training
    assert not any(module.training for module in tower.modules() if module is not tower)
    assert not any(p.requires_grad for p in tower.parameters())
    assert torch.equal(tower(*asked(name)), before)


@pytest.mark.parametrize("name", VECTORS)
def test_a_tower_holds_weights_and_no_training_data(name):
    model = model_of(name)
    held = set(model.user_tower().state_dict())
    assert held == WEIGHTS.get(name, set(model.state_dict()))


def test_a_tower_of_histories_needs_its_formula():
    with pytest.raises(TypeError, match="vectors"):
        HistoryTower(torch.zeros(2, 3), torch.zeros(4, 3))
