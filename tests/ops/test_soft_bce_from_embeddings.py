from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import gather_dot, soft_bce, soft_bce_from_embeddings
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.list_contract import ListContract
from tests.ops.test_weighted_bce import by_hand

BACKENDS = backends_of("soft_bce_from_embeddings")
BACKWARD = torch.ops.fastkd.soft_bce_from_embeddings_backward.default


class TestContract(ListContract):
    op = "soft_bce_from_embeddings"

    def constants(self, rows, device="cpu"):
        teacher = (2 * wave(rows, 6, 0.7)).to(device)
        return teacher, teacher.abs() + 0.5

    def call(self, inputs, backend="auto"):
        rows, device = inputs[0].shape[0], inputs[0].device
        teacher, weights = self.constants(rows, device)
        return soft_bce_from_embeddings(
            *inputs, self.ids(rows, device), teacher, temperature=1.7, shift=0.4, weights=weights, backend=backend
        )

    def by_hand_scores(self, scores):
        teacher, weights = self.constants(len(scores))
        return by_hand(scores, 1 / (1 + (-(teacher + 0.4) / 1.7).exp()), weights)

    def native_calls(self):
        native = torch.ops.fastkd.soft_bce_from_embeddings.default
        return self.calls(native, BACKWARD, (self.constants(3)[0], None, 1.5, 0.25))


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_loss_of_the_scores(backend):
    leaves = [wave(3, 4, 0.3).requires_grad_(), wave(20, 4, 0.8).requires_grad_()]
    ids, teacher = torch.tensor([[1, 5, -1], [0, 19, 2], [-1, -1, -1]]), wave(3, 3, 0.5)
    found = soft_bce_from_embeddings(*leaves, ids, teacher, temperature=2.0, backend=backend)
    expected = soft_bce(gather_dot(*leaves, ids, backend="reference"), teacher, temperature=2.0, backend="reference")
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(t.sum(), leaves) for t in (found, expected)), strict=True):
        assert_near(a, b)


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(9, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"teacher must be shaped like ids, \[2, 4\], got \[2, 3\]"):
        soft_bce_from_embeddings(users, items, ids, users)
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got 0"):
        soft_bce_from_embeddings(users, items, ids, torch.zeros(2, 4), temperature=0)
    with pytest.raises(ValueError, match="shift must be a finite number, got nan"):
        soft_bce_from_embeddings(users, items, ids, torch.zeros(2, 4), shift=math.nan)
