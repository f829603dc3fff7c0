from __future__ import annotations

import numpy as np
import pytest
import torch

from fastkd import Interactions, Seeds
from tests.contracts.interactions import random_interactions
from tests.contracts.model_contract import ModelContract


def dense_adjacency(train: Interactions) -> np.ndarray:
    """The published normalisation, written entry by entry."""
    users, items = train.num_users, train.num_items
    matrix = np.zeros((users + items, users + items))
    degrees, counts = train.degrees(), train.item_counts()
    for user, row in enumerate(train):
        for item in row:
            weight = 1.0 / np.sqrt(float(degrees[user]) * float(counts[item]))
            matrix[user, users + item] = matrix[users + item, user] = weight
    return matrix


class TestLightGCN(ModelContract):
    name = "lightgcn"
    init_std = 0.1

    @pytest.mark.parametrize("layers", [0, 1, 3])
    def test_layers_are_averaged(self, train, layers):
        model = self.build(train, layers=layers)
        start = torch.cat([model.user_embedding, model.item_embedding]).detach().double().numpy()
        matrix = dense_adjacency(train)
        wanted = sum(np.linalg.matrix_power(matrix, power) @ start for power in range(layers + 1)) / (layers + 1)
        tables = model.tables()
        found = torch.cat([tables.users, tables.items]).detach().numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)

    def test_gradient_is_the_transposed_product(self, train):
        model = self.build(train, layers=3)
        tables = model.tables()
        upstream = torch.randn(60, 7, generator=Seeds(1).torch("g"))
        (torch.cat([tables.users, tables.items]) * upstream).sum().backward()
        matrix = dense_adjacency(train)
        powers = sum(np.linalg.matrix_power(matrix, power) for power in range(4)) / 4
        found = torch.cat([model.user_embedding.grad, model.item_embedding.grad]).numpy()
        np.testing.assert_allclose(found, powers.T @ upstream.double().numpy(), rtol=1e-5, atol=1e-6)

    def test_a_node_of_degree_zero_keeps_its_start_divided_by_the_layers(self):
        model = self.build(Interactions.from_pairs([0], [2], num_users=3, num_items=5), layers=3)
        tables = model.tables()
        assert torch.equal(tables.users[1], model.user_embedding[1] / 4)
        assert torch.equal(tables.items[4], model.item_embedding[4] / 4)

    def test_one_propagation_per_tables(self, train):
        model, calls = self.build(train, layers=3), []
        model.graph.register_forward_hook(lambda *_: calls.append(1))
        model.tables()
        assert len(calls) == 3

    def test_same_bits_for_any_number_of_threads(self):
        train = random_interactions(300, 200, 20)
        threads, results = torch.get_num_threads(), []
        try:
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                model = self.build(train)
                tables = model.tables()
                (tables.users.square().sum() + tables.items.square().sum()).backward()
                results.append((tables.items.detach(), model.user_embedding.grad))
        finally:
            torch.set_num_threads(threads)
        for items, grad in results[1:]:
            assert torch.equal(items, results[0][0])
            assert torch.equal(grad, results[0][1])
