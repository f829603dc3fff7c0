from __future__ import annotations

from tests.contracts.interactions import random_interactions
from tests.contracts.model_contract import ModelContract


class TestBPRMF(ModelContract):
    name = "bpr_mf"
    init_std = 0.01

    def test_tables_are_the_parameters(self):
        model = self.build(random_interactions())
        assert model.tables().users is model.user_embedding
        assert model.tables().items is model.item_embedding

    def test_a_row_does_not_depend_on_later_rows(self):
        small, large = (self.build(random_interactions(users)) for users in (11, 19))
        assert (small.user_embedding == large.user_embedding[:11]).all()
