from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import gather_dot, pairwise, pairwise_from_embeddings
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.list_contract import ListContract
from tests.ops.test_pairwise import MARGIN, by_hand

BACKENDS = backends_of("pairwise_from_embeddings")
BACKWARD = torch.ops.fastkd.pairwise_from_embeddings_backward.default


class TestBpr(ListContract):
    op = "pairwise_from_embeddings"
    loss = "bpr"

    def weights(self, rows, device="cpu"):
        return wave(rows, 5, 0.7).abs().to(device) + 0.5

    def call(self, inputs, backend="auto"):
        rows, device = inputs[0].shape[0], inputs[0].device
        ids = self.ids(rows, device)
        return pairwise_from_embeddings(
            *inputs, ids[:, 0], ids[:, 1:], loss=self.loss, margin=MARGIN, weights=self.weights(rows, device),
            backend=backend,
        )  # fmt: skip

    def by_hand_scores(self, scores):
        return by_hand(scores[:, 0], scores[:, 1:], self.loss, self.weights(len(scores)))

    def lists(self, rows):
        return self.ids(rows)[:, :1], self.ids(rows)[:, 1:]

    def native_calls(self):
        native = torch.ops.fastkd.pairwise_from_embeddings.default
        return self.calls(native, BACKWARD, (self.weights(3), self.loss, MARGIN))


class TestMargin(TestBpr):
    # What does not depend on the loss is tested above.
    loss = "margin"
    test_opcheck = test_calls_from_several_threads_at_once = test_autocast = test_no_rows = None
    test_backends_are_obeyed_or_refused = test_strides_do_not_matter = test_backward_twice_gives_the_same = None
    test_same_bits_for_any_number_of_threads = test_gradient_only_where_wanted = None
    test_native_refuses_a_second_derivative = None


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize(("rows", "dim", "width", "count"), [(3, 2, 1, 5), (3, 40, 150, 9), (1, 200, 130, 60)])
@pytest.mark.parametrize("loss", ["bpr", "margin"])
def test_any_shape(backend, rows, dim, width, count, loss):
    random = torch.Generator().manual_seed(dim)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    ids = torch.randint(-1, count, (rows, 1 + width), generator=random)
    upstream = torch.rand(rows, generator=random, dtype=torch.float64)
    scores = gather_dot(*leaves, ids, backend="reference")
    found = pairwise_from_embeddings(*leaves, ids[:, 0], ids[:, 1:], loss=loss, backend=backend)
    expected = pairwise(scores[:, 0], scores[:, 1:], loss=loss, backend="reference")
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(t, leaves, upstream) for t in (found, expected)), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", ["bpr", "margin"])
def test_weights_padding_and_ids_of_two_widths(backend, loss):
    leaves = [wave(3, 4, 0.3).requires_grad_(), wave(20, 4, 0.8).requires_grad_()]
    positive, negative = torch.tensor([1, 0, -1]), torch.tensor([[3, 7], [19, -1], [2, 3]])
    weights = torch.tensor([[1.0, 2.0], [0.5, 1.0], [1.0, 1.0]])
    found = pairwise_from_embeddings(*leaves, positive.int(), negative, loss=loss, weights=weights, backend=backend)
    scores = (gather_dot(*leaves, ids, backend="reference") for ids in (positive.unsqueeze(1), negative))
    expected = pairwise(next(scores)[:, 0], next(scores), loss=loss, weights=weights, backend="reference")
    assert found[2] == 0
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(t.sum(), leaves) for t in (found, expected)), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_beyond_exp(backend):
    users, items = torch.full((1, 1), 100.0), torch.tensor([[100.0], [-100.0]], requires_grad=True)
    for first, expected, slopes in ((0, 0.0, [0, 0]), (1, 2e4, [100, -100])):
        value = pairwise_from_embeddings(
            users, items, torch.tensor([first]), torch.tensor([[1 - first]]), backend=backend
        )
        assert value.tolist() == [expected]
        assert torch.autograd.grad(value.sum(), items)[0][:, 0].tolist() == slopes


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_scores_cost_a_bit_each(backend):
    users, items = torch.ones(2, 3, requires_grad=True), torch.full((9, 3), 0.5)
    value = pairwise_from_embeddings(
        users, items, torch.tensor([0, 1]), torch.tensor([[4, 4], [5, -1]]), backend=backend
    )
    assert value.tolist() == pytest.approx([math.log(2)] * 2, rel=torch.finfo(torch.float32).eps)
    assert not torch.autograd.grad(value.sum(), users)[0].any()


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(9, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"positive_ids must be Int64\[B\] .* got shape \[2, 4\]"):
        pairwise_from_embeddings(users, items, ids, ids)
    with pytest.raises(ValueError, match=r"users and positive_ids .* rows, got \[2, 3\] and \[1\]"):
        pairwise_from_embeddings(users, items, ids[:1, 0], ids)
    with pytest.raises(ValueError, match=r"negative_ids holds 9, outside \[0, 9\)"):
        pairwise_from_embeddings(users, items, ids[:, 0], ids + 9)
    with pytest.raises(ValueError, match=r"positive_ids holds -2, outside \[0, 9\)"):
        pairwise_from_embeddings(users, items, ids[:, 0] - 2, ids)
    with pytest.raises(ValueError, match=r"loss must be one of bpr, margin, got 'brp'. Did you mean 'bpr'"):
        pairwise_from_embeddings(users, items, ids[:, 0], ids, loss="brp")
    with pytest.raises(ValueError, match=r"weights must be shaped like negative_ids, \[2, 4\], got \[2, 3\]"):
        pairwise_from_embeddings(users, items, ids[:, 0], ids, weights=users)
