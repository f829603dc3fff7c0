from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fastkd.core.errors import ConfigError
from tests.contracts.recommender_contract import RecommenderContract


class TestCDAE(RecommenderContract):
    name = "cdae"
    constant = ("hidden_bias", "item_bias")
    beats = 0.2

    def given(self, train, **options):
        """A model whose biases are not 0."""
        model = self.build(train, init_std=0.7, **options)
        random = torch.Generator().manual_seed(0)
        for bias in (model.hidden_bias, model.item_bias):
            bias.data.copy_(torch.randn(bias.shape, generator=random))
        return model

    def test_scores_are_the_formula(self, train):
        model = self.given(train)
        state = {name: value.double().numpy() for name, value in model.state_dict().items()}
        found = self.dense(model)
        for user in (0, 9, 22):
            hidden = []
            for d in range(6):
                value = state["hidden_bias"][d] + state["user_embedding"][user][d]
                for item in train.row(user):
                    value += state["encoder"][item][d]
                hidden.append(1 / (1 + math.exp(-value)))
            for item in (0, 17, 36):
                wanted = sum(h * w for h, w in zip(hidden, state["decoder"][item], strict=True))
                assert found[user, item].item() == pytest.approx(wanted + state["item_bias"][item], rel=1e-5)

    def test_the_bias_is_a_column_of_the_tables(self, train):
        model = self.given(train)
        tables = model.frozen_tables()
        assert model.dim == tables.items.shape[1] == 7
        assert (tables.users[:, -1] == 1).all()
        assert torch.equal(tables.items[:, -1], model.item_bias.detach())

    def test_loss_is_the_cross_entropy_of_positive_and_negatives(self, train):
        model, batch = self.given(train).eval(), self.batch(train)
        found, whole = model.row_losses(model.tables(), batch).detach(), self.dense(model).double().numpy()
        for row in range(len(batch)):
            scores = whole[batch.users[row]]
            wanted = np.log1p(np.exp(-scores[batch.positives[row]]))
            wanted += np.log1p(np.exp(scores[batch.negatives[row].numpy()])).sum()
            assert found[row].item() == pytest.approx(wanted, rel=1e-5)

    def test_the_input_is_corrupted_in_training_only(self, train):
        model, users = self.given(train, options={"corruption": 0.8}), torch.arange(23)
        frozen = model.frozen_tables().users
        torch.manual_seed(0)
        assert not torch.equal(model.train().encode(users), frozen)
        assert torch.equal(model.eval().encode(users), frozen)
        whole = self.given(train, options={"corruption": 0.0}).train()
        assert torch.equal(whole.encode(users), frozen)

    def test_first_spread_and_count(self, train):
        model = self.build(train, dim=25)
        assert model.encoder.std().item() == pytest.approx(0.2, rel=0.1)
        assert model.num_parameters() == (23 + 37 + 37) * 25 + 25 + 37

    @pytest.mark.parametrize("value", [-0.1, 1.0])
    def test_impossible_corruption_is_refused_by_value(self, train, value):
        with pytest.raises(ConfigError, match=rf"corruption must be in \[0, 1\), got {value}"):
            self.build(train, options={"corruption": value})
