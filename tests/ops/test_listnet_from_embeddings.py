from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import gather_dot, listnet, listnet_from_embeddings
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.op_contract import OpContract
from tests.ops.test_listnet import by_hand

OP = "listnet_from_embeddings"
BACKENDS = backends_of(OP)
NATIVE = torch.ops.fastkd.listnet_from_embeddings.default
BACKWARD = torch.ops.fastkd.listnet_from_embeddings_backward.default


class TestContract(OpContract):
    op = OP

    def count(self, rows):
        return 8 if rows <= 3 else 30  # few numbers to differentiate by

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        users, items = (torch.randn(n, 3, generator=random, dtype=torch.float64) for n in (rows, self.count(rows)))
        return [users, items * scale]

    def lists(self, rows, device="cpu"):
        ids = (torch.arange(rows * 6).view(rows, 6) * 7919) % self.count(rows)
        return ids.masked_fill(ids % 7 == 0, -1).to(device), (2 * wave(rows, 6, 0.7)).to(device)

    def call(self, inputs, backend="auto"):
        lists = self.lists(inputs[0].shape[0], inputs[0].device)
        return listnet_from_embeddings(*inputs, *lists, temperature=1.7, backend=backend)

    def by_hand(self, inputs):
        ids, teacher = self.lists(len(inputs[0]))
        scores = (inputs[0] @ inputs[1].T).gather(1, ids.clamp(min=0)).masked_fill(ids < 0, -math.inf)
        return by_hand(scores, teacher, 1.7)

    def native_calls(self):
        users, items = (t.float() for t in self.inputs(rows=3))
        ids, teacher = self.lists(3)
        made = NATIVE(users, items, ids, teacher, 1.0, True, True, True, "numba")
        leaves = users.clone().requires_grad_(), items.clone().requires_grad_()
        return [
            (NATIVE, (*leaves, ids, teacher, 1.0, True, False, False, "numba")),
            (NATIVE, (users, items, ids.int(), teacher.float(), 2.0, False, False, True, "numba")),
            (BACKWARD, (torch.ones(3), *made[1:], users.bfloat16(), items, True, True, "numba")),
        ]


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize(("rows", "dim", "width", "count"), [(3, 2, 1, 5), (3, 40, 150, 9), (1, 200, 130, 60)])
def test_any_shape(backend, rows, dim, width, count):
    random = torch.Generator().manual_seed(dim)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    ids = torch.randint(-1, count, (rows, width), generator=random)
    teacher, upstream = (torch.randn(*s, generator=random, dtype=torch.float64) for s in ((rows, width), (rows,)))
    loss = listnet_from_embeddings(*leaves, ids, teacher, backend=backend)
    expected = listnet(gather_dot(*leaves, ids, backend="reference"), teacher, backend="reference")
    assert_near(loss, expected)
    pairs = (torch.autograd.grad(t, leaves, upstream) for t in (loss, expected))
    for a, b in zip(*pairs, strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_out_of_range_are_named(backend):
    ids = torch.tensor([[0, 9]])
    with pytest.raises(ValueError, match=r"ids holds 9, outside \[0, 9\) and not -1"):
        listnet_from_embeddings(torch.zeros(1, 3), torch.zeros(9, 3), ids, torch.zeros(1, 2), backend=backend)


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(9, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"teacher must be shaped like ids, \[2, 4\], got \[2, 3\]"):
        listnet_from_embeddings(users, items, ids, users)
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got 0"):
        listnet_from_embeddings(users, items, ids, torch.zeros(2, 4), temperature=0)
    with pytest.raises(ValueError, match=r"users and items .* width D"):
        listnet_from_embeddings(users, items[:, :1], ids, torch.zeros(2, 4))
