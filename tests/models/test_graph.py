from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd import Interactions
from fastkd.models.graph import BipartiteGraph
from tests.contracts.interactions import random_interactions
from tests.models.test_lightgcn import dense_adjacency


def test_storage_is_two_entries_per_interaction_in_narrow_ids():
    train = random_interactions()
    graph = BipartiteGraph(train)
    assert len(graph.neighbours) == len(graph.weights) == 2 * train.nnz
    assert graph.neighbours.dtype == graph.offsets.dtype == torch.int32
    assert not graph.state_dict()


@settings(deadline=None, max_examples=30)
@given(
    pairs=st.sets(st.tuples(st.integers(0, 6), st.integers(0, 8)), max_size=40),
    width=st.integers(1, 5),
)
def test_product_and_its_gradient_are_the_dense_ones(pairs, width):
    ordered = sorted(pairs)
    train = Interactions.from_pairs([u for u, _ in ordered], [i for _, i in ordered], num_users=7, num_items=9)
    matrix = torch.from_numpy(dense_adjacency(train))
    graph = BipartiteGraph(train).double()
    random = torch.Generator().manual_seed(width)
    x = torch.randn(16, width, generator=random, dtype=torch.float64).requires_grad_(True)
    upstream = torch.randn(16, width, generator=random, dtype=torch.float64)
    product = graph(x)
    torch.testing.assert_close(product, matrix @ x, rtol=1e-6, atol=1e-7)
    (grad,) = torch.autograd.grad(product, x, upstream)
    torch.testing.assert_close(grad, matrix.T @ upstream, rtol=1e-6, atol=1e-7)


def test_a_layout_that_is_not_contiguous_is_read_right():
    train = random_interactions()
    graph, x = BipartiteGraph(train), torch.randn(7, 60).T
    assert torch.equal(graph(x), graph(x.contiguous()))


def test_second_derivative():
    graph = BipartiteGraph(random_interactions(4, 6, 3)).double()
    x = torch.randn(10, 2, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda x: graph(x).square(), x)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_poisoned_node_reaches_its_neighbours_only(value):
    train = Interactions.from_pairs([0, 1], [0, 1], num_users=2, num_items=3)
    x = torch.ones(5, 2)
    x[0] = value
    product = BipartiteGraph(train)(x)
    assert not torch.isfinite(product[2]).any()
    assert torch.isfinite(product[[0, 1, 3, 4]]).all()
