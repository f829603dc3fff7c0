from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd.core.errors import ConfigError
from tests.contracts.recommender_contract import RecommenderContract


def by_hand(model, train, user, gamma):
    """The user's vector by the paper's formula, one number at a time."""
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    history, dim = train.row(user), model.dim
    mean = [sum(state["item_embedding"][i][d] for i in history) / max(len(history), 1) for d in range(dim)]
    mixed = [sum(state["mix.weight"][d][e] * mean[e] for e in range(dim)) for d in range(dim)]
    own = state["user_embedding"][user]
    vector = [gamma * own[d] + (1 - gamma) * mixed[d] for d in range(dim)]
    return np.array(vector) / np.sqrt(sum(v * v for v in vector))


class TestSimpleX(RecommenderContract):
    name = "simplex"
    options = {"drawn": 50, "weight": 5.0, "margin": 0.3, "gamma": 0.2}  # noqa: RUF012
    learning = {"reduction": "mean", "lr": 0.003, "epochs": 30}  # noqa: RUF012
    beats = 0.2

    @pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
    def test_scores_are_the_cosines_of_the_formula(self, train, gamma):
        model = self.build(train, init_std=0.7, options={"gamma": gamma})
        found, items = self.dense(model), model.item_embedding.detach().double().numpy()
        for user in (0, 7, 22):
            vector = by_hand(model, train, user, gamma)
            wanted = items @ vector / np.linalg.norm(items, axis=1)
            np.testing.assert_allclose(found[user], wanted, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("drawn", [0, 7])
    def test_loss_is_the_published_one(self, train, drawn):
        model = self.build(train, init_std=0.7, options={"drawn": drawn, "margin": 0.2, "weight": 3.0}).eval()
        batch, whole = self.batch(train), self.dense(model).double()
        found = model.row_losses(model.tables(), batch, epoch=2, step=5).detach()
        negatives = batch.negatives
        if drawn:
            random = model._seeds.torch("simplex/negatives", 2, 5)
            negatives = torch.randint(37, (40, 7), generator=random)
            assert not torch.equal(found, model.row_losses(model.tables(), batch, epoch=2, step=6).detach())
        for row in range(len(batch)):
            scores = whole[batch.users[row]].numpy()
            pushed = [max(0.0, scores[j] - 0.2) for j in negatives[row].tolist()]
            wanted = max(0.0, 1 - scores[batch.positives[row]]) + 3.0 * sum(pushed) / len(pushed)
            assert found[row].item() == pytest.approx(wanted, rel=1e-4)

    def test_vectors_have_length_one_and_dropout_is_for_training(self, train):
        model = self.build(train, options={"dropout": 0.5})
        tables = model.frozen_tables()
        torch.testing.assert_close(tables.users.norm(dim=1), torch.ones(23))
        torch.testing.assert_close(tables.items.norm(dim=1), torch.ones(37))
        vectors = model.train().tables().user_vectors(torch.arange(23))
        assert 0.3 < (vectors == 0).float().mean() < 0.7

    def test_first_spread(self, train):
        model = self.build(train, dim=32)
        assert model.item_embedding.std().item() == pytest.approx(1e-4, rel=0.05)
        assert model.num_parameters() == 60 * 32 + 32 * 32

    @pytest.mark.parametrize(
        ("key", "value"), [("gamma", 1.5), ("margin", -2.0), ("weight", -1.0), ("drawn", -1), ("dropout", 1.0)]
    )
    def test_impossible_options_are_refused_by_value(self, train, key, value):
        with pytest.raises(ConfigError, match=rf"{key}.*{value}"):
            self.build(train, options={key: value})
