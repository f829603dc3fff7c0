from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd.core.errors import ConfigError
from tests.contracts.recommender_contract import RecommenderContract


def by_hand(state, user, item):
    """The paper's formula, one number at a time."""
    values = {name: value.double().numpy() for name, value in state.items()}
    tables = {name.split(".")[1]: value for name, value in values.items() if name.startswith("embeddings")}
    gmf = [p * q for p, q in zip(tables["gmf_users"][user], tables["gmf_items"][item], strict=True)]
    hidden = [*tables["mlp_users"][user], *tables["mlp_items"][item]]
    depth = 0
    while f"tower.{depth}.weight" in values:
        weight, bias = values[f"tower.{depth}.weight"], values[f"tower.{depth}.bias"]
        hidden = [
            max(0.0, sum(w * x for w, x in zip(row, hidden, strict=True)) + b)
            for row, b in zip(weight, bias, strict=True)
        ]
        depth += 1
    last = values["output.weight"][0]
    return sum(w * x for w, x in zip(last, gmf + hidden, strict=True)) + values["output.bias"][0], depth


class TestNeuMF(RecommenderContract):
    name = "neumf"
    beats = 0.2

    @pytest.mark.parametrize("hidden", [1, 3])
    def test_scores_are_the_formula(self, train, hidden):
        model = self.build(train, init_std=0.7, options={"hidden": hidden})
        found = self.dense(model)
        for user, item in [(0, 0), (22, 36), (5, 17), (13, 2)]:
            wanted, depth = by_hand(model.state_dict(), user, item)
            assert depth == hidden
            np.testing.assert_allclose(found[user, item].item(), wanted, rtol=1e-5, atol=1e-6)

    def test_loss_is_the_cross_entropy_of_positive_and_negatives(self, train):
        model, batch = self.build(train, init_std=0.7), self.batch(train)
        found, whole = model.row_losses(model.tables(), batch), self.dense(model).double()
        for row in range(len(batch)):
            scores = whole[batch.users[row]]
            wanted = torch.log1p(torch.exp(-scores[batch.positives[row]]))
            wanted = wanted + torch.log1p(torch.exp(scores[batch.negatives[row]])).sum()
            assert found[row].item() == pytest.approx(wanted.item(), rel=1e-5)

    def test_widths_and_first_spread(self, train):
        model = self.build(train, dim=16, options={"hidden": 3})
        assert [tuple(layer.weight.shape) for layer in model.tower] == [(16, 32), (8, 16), (4, 8)]
        assert model.output.weight.shape == (1, 20)
        assert model.embeddings["gmf_items"].std().item() == pytest.approx(0.01, rel=0.1)
        assert model.tower[0].weight.abs().max() <= 1 / np.sqrt(32)
        assert model.num_parameters() == 2 * 60 * 16 + 32 * 16 + 16 + 16 * 8 + 8 + 8 * 4 + 4 + 20 + 1

    def test_no_hidden_layer_is_refused(self, train):
        with pytest.raises(ConfigError, match="hidden must be at least 1, got 0"):
            self.build(train, options={"hidden": 0})
