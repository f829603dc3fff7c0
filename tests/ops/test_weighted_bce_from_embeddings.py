from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import gather_dot, soft_bce, soft_bce_from_embeddings, weighted_bce, weighted_bce_from_embeddings
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.list_contract import ListContract
from tests.ops.test_weighted_bce import by_hand

BACKENDS = backends_of("weighted_bce_from_embeddings")
BACKWARD = torch.ops.fastkd.weighted_bce_from_embeddings_backward.default


class TestContract(ListContract):
    op = "weighted_bce_from_embeddings"

    def constants(self, rows, device="cpu"):
        targets = wave(rows, 6, 0.7).abs().to(device)
        return targets, targets + 0.5

    def call(self, inputs, backend="auto"):
        rows, device = inputs[0].shape[0], inputs[0].device
        targets, weights = self.constants(rows, device)
        return weighted_bce_from_embeddings(*inputs, self.ids(rows, device), targets, weights=weights, backend=backend)

    def by_hand_scores(self, scores):
        return by_hand(scores, *self.constants(len(scores)))

    def native_calls(self):
        native = torch.ops.fastkd.weighted_bce_from_embeddings.default
        return self.calls(native, BACKWARD, (self.constants(3)[0], None))


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize(("rows", "dim", "width", "count"), [(3, 2, 1, 5), (3, 40, 150, 9), (1, 200, 130, 60)])
def test_any_shape(backend, rows, dim, width, count):
    random = torch.Generator().manual_seed(dim)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    ids = torch.randint(-1, count, (rows, width), generator=random)
    targets, upstream = (torch.rand(*s, generator=random, dtype=torch.float64) for s in ((rows, width), (rows,)))
    scores = gather_dot(*leaves, ids, backend="reference")
    for native, plain in ((weighted_bce_from_embeddings, weighted_bce), (soft_bce_from_embeddings, soft_bce)):
        found = native(*leaves, ids, targets, backend=backend)
        expected = plain(scores, targets, backend="reference")
        assert_near(found, expected)
        pairs = (torch.autograd.grad(t, leaves, upstream, retain_graph=True) for t in (found, expected))
        for a, b in zip(*pairs, strict=True):
            assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_and_padding(backend):
    leaves = [wave(3, 4, 0.3).requires_grad_(), wave(20, 4, 0.8).requires_grad_()]
    ids, targets = torch.tensor([[1, 5, -1], [0, 19, 2], [-1, -1, -1]]), wave(3, 3, 0.5).abs()
    found = weighted_bce_from_embeddings(*leaves, ids, targets, weights=targets + 1, backend=backend)
    scores = gather_dot(*leaves, ids, backend="reference")
    expected = weighted_bce(scores, targets, weights=targets + 1, backend="reference")
    assert found[2] == 0
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(t.sum(), leaves) for t in (found, expected)), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_beyond_exp(backend):
    users, items = torch.full((1, 1), 100.0), torch.tensor([[100.0], [-100.0]], requires_grad=True)
    value = weighted_bce_from_embeddings(users, items, torch.tensor([[0, 1]]), torch.zeros(1, 2), backend=backend)
    value.sum().backward()
    assert value.tolist() == [1e4]
    assert items.grad[:, 0].tolist() == [100, 0]


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(9, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"targets must be shaped like ids, \[2, 4\], got \[2, 3\]"):
        weighted_bce_from_embeddings(users, items, ids, users)
    with pytest.raises(ValueError, match=r"users and items .* width D"):
        weighted_bce_from_embeddings(users, items[:, :1], ids, torch.zeros(2, 4))
    with pytest.raises(ValueError, match=rf"ids holds {9}, outside"):
        weighted_bce_from_embeddings(users, items, ids + 9, torch.zeros(2, 4))
    assert math.isclose(
        weighted_bce_from_embeddings(users, items, ids, torch.zeros(2, 4))[0], 4 * math.log(2), rel_tol=1e-6
    )
