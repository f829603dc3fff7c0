from __future__ import annotations

import pytest
import torch

from fastkd.ops import gather_dot, lambda_pairs, lambda_pairs_from_embeddings
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.list_contract import ListContract
from tests.ops.test_lambda_pairs import KINDS, by_hand

BACKENDS = backends_of("lambda_pairs_from_embeddings")
BACKWARD = torch.ops.fastkd.lambda_pairs_from_embeddings_backward.default


class TestLambdaLoss(ListContract):
    op = "lambda_pairs_from_embeddings"
    weights = "lambdaloss"

    def gains(self, rows, device="cpu"):
        return wave(rows, 6, 0.7).abs().to(device) + 0.5

    def call(self, inputs, backend="auto"):
        rows, device = inputs[0].shape[0], inputs[0].device
        weights = self.weights if isinstance(self.weights, str) else self.weights.to(device)
        return lambda_pairs_from_embeddings(
            *inputs, self.ids(rows, device), self.gains(rows, device), weights=weights, sigma=0.7, backend=backend
        )

    def by_hand_scores(self, scores):
        return by_hand(scores, self.gains(len(scores)), self.weights, 0.7)

    def native_calls(self):
        native = torch.ops.fastkd.lambda_pairs_from_embeddings.default
        return self.calls(native, BACKWARD, (self.gains(3), None, "lambdarank", 1.5))


class TestGiven(TestLambdaLoss):
    # What does not depend on the weights is tested above.
    weights = 1 + wave(6, 6, 0.3)
    test_opcheck = test_calls_from_several_threads_at_once = test_autocast = test_no_rows = None
    test_backends_are_obeyed_or_refused = test_strides_do_not_matter = test_backward_twice_gives_the_same = None
    test_same_bits_for_any_number_of_threads = test_gradient_only_where_wanted = None
    test_native_refuses_a_second_derivative = test_compiles_without_a_graph_break = None


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize(("rows", "dim", "width", "count"), [(3, 2, 1, 5), (3, 40, 50, 9), (1, 200, 100, 60)])
@pytest.mark.parametrize("weights", KINDS)
def test_any_shape(backend, rows, dim, width, count, weights):
    random = torch.Generator().manual_seed(dim)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    leaves[0].data /= dim**0.5
    # An item listed twice is a tie in exact numbers alone: two backends may round it apart, and rank it otherwise.
    ids = torch.stack([torch.randperm(max(count, width), generator=random)[:width] for _ in range(rows)])
    ids = ids.masked_fill((ids >= count) | (ids == 2), -1)
    upstream = torch.rand(rows, generator=random, dtype=torch.float64)
    found = lambda_pairs_from_embeddings(*leaves, ids, weights=weights, backend=backend)
    expected = lambda_pairs(gather_dot(*leaves, ids, backend="reference"), weights=weights, backend="reference")
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(t, leaves, upstream) for t in (found, expected)), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", KINDS)
def test_ties_and_padding(backend, weights):
    """Users of small integers: scores are exact, so items that are equal are tied in every backend."""
    users, items = torch.tensor([[1.0, 2.0], [3.0, -1.0], [1.0, 1.0]]), torch.arange(12.0).view(6, 2) % 3
    leaves = [users.requires_grad_(), items.requires_grad_()]
    ids = torch.tensor([[0, 3, 1, 0, 4], [2, -1, 5, 2, 1], [-1, -1, -1, -1, -1]])
    assert any(len(set(row)) < 5 for row in (users @ items.T).tolist())
    found = lambda_pairs_from_embeddings(*leaves, ids, weights=weights, backend=backend)
    scores = (users @ items.T).gather(1, ids.clamp(min=0)).masked_fill(ids < 0, -torch.inf)
    assert_near(found, by_hand(scores, weights=weights).float(), hair=4)
    assert found[2] == 0
    expected = lambda_pairs_from_embeddings(*leaves, ids, weights=weights, backend="reference")
    for a, b in zip(*(torch.autograd.grad(t.sum(), leaves) for t in (found, expected)), strict=True):
        assert_near(a, b, hair=8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_beyond_exp(backend):
    users, items = torch.full((1, 1), 100.0), torch.tensor([[-100.0], [100.0]], requires_grad=True)
    value = lambda_pairs_from_embeddings(users, items, torch.tensor([[0, 1]]), weights="uniform", backend=backend)
    value.sum().backward()
    assert value.tolist() == [2e4]
    assert items.grad[:, 0].tolist() == [-100, 100]


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(9, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"ids holds 9, outside \[0, 9\)"):
        lambda_pairs_from_embeddings(users, items, ids + 9)
    with pytest.raises(ValueError, match=r"gains must be shaped like ids, \[2, 4\], got \[2, 3\]"):
        lambda_pairs_from_embeddings(users, items, ids, users)
    with pytest.raises(ValueError, match=r"weights must be \[4, 4\] for lists of 4, got \[2, 3\]"):
        lambda_pairs_from_embeddings(users, items, ids, weights=users)
    with pytest.raises(ValueError, match="sigma must be a positive finite number, got nan"):
        lambda_pairs_from_embeddings(users, items, ids, sigma=float("nan"))
