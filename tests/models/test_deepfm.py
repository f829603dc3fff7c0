from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd.core.errors import ConfigError
from tests.contracts.recommender_contract import RecommenderContract


def by_hand(state, user, item):
    """The paper's formula over the two fields, one number at a time."""
    p = {name: value.double().numpy() for name, value in state.items()}
    fields = [p["user_embedding"][user], p["item_embedding"][item]]
    score = p["bias"][0] + p["user_weight"][user][0] + p["item_weight"][item][0]
    for d in range(len(fields[0])):
        score += 0.5 * (sum(f[d] for f in fields) ** 2 - sum(f[d] ** 2 for f in fields))
    hidden, depth = [*fields[0], *fields[1]], 0
    while f"layers.{depth}.weight" in p:
        inputs = hidden if depth == 0 else [max(0.0, h) for h in hidden]
        weight, bias = p[f"layers.{depth}.weight"], p[f"layers.{depth}.bias"]
        hidden = [sum(w * x for w, x in zip(row, inputs, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        depth += 1
    return score + hidden[0], depth


class TestDeepFM(RecommenderContract):
    name = "deepfm"
    options = {"hidden": [16, 8], "dropout": 0.2}  # noqa: RUF012
    constant = ("user_weight", "item_weight", "bias")
    beats = 0.2

    def given(self, train, **options):
        """A model whose weights of single fields are not 0."""
        model = self.build(train, init_std=0.7, options=options)
        random = torch.Generator().manual_seed(0)
        for weight in (model.user_weight, model.item_weight, model.bias):
            weight.data.copy_(torch.randn(weight.shape, generator=random))
        return model

    @pytest.mark.parametrize("hidden", [[5], [16, 8, 3]])
    def test_scores_are_the_formula(self, train, hidden):
        model = self.given(train, hidden=hidden)
        found = self.dense(model)
        for user, item in [(0, 0), (22, 36), (5, 17), (13, 2)]:
            wanted, depth = by_hand(model.state_dict(), user, item)
            assert depth == len(hidden) + 1
            np.testing.assert_allclose(found[user, item].item(), wanted, rtol=1e-5, atol=1e-5)

    def test_loss_is_the_cross_entropy_of_positive_and_negatives(self, train):
        model, batch = self.given(train).eval(), self.batch(train)
        found, whole = model.row_losses(model.tables(), batch).detach(), self.dense(model).double().numpy()
        for row in range(len(batch)):
            scores = whole[batch.users[row]]
            wanted = np.log1p(np.exp(-scores[batch.positives[row]]))
            wanted += np.log1p(np.exp(scores[batch.negatives[row].numpy()])).sum()
            assert found[row].item() == pytest.approx(wanted, rel=1e-5)

    def test_dropout_is_for_training(self, train):
        model, users, items = self.given(train, dropout=0.5), torch.arange(23), torch.arange(23)
        torch.manual_seed(0)
        first, again = model.train().score(users, items), model.score(users, items)
        assert not torch.equal(first, again)
        assert torch.equal(model.eval().score(users, items), model.score(users, items))

    def test_first_spread_and_widths(self, train):
        model = self.build(train, dim=25, options={"hidden": [400, 400, 400], "dropout": 0.5})
        assert [tuple(layer.weight.shape) for layer in model.layers] == [(400, 50), (400, 400), (400, 400), (1, 400)]
        assert model.item_embedding.std().item() == pytest.approx((2 / 62) ** 0.5, rel=0.1)
        assert model.config.hidden == (400, 400, 400)

    @pytest.mark.parametrize(("key", "value"), [("hidden", []), ("hidden", [4, 0]), ("dropout", 1.0)])
    def test_impossible_options_are_refused(self, train, key, value):
        with pytest.raises(ConfigError, match=key):
            self.build(train, options={key: value})
