from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.ops import gather_dot
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.op_contract import OpContract

BACKENDS = backends_of("gather_dot")

ITEMS = 150


def ids_for(rows, width=6):
    ids = (torch.arange(rows * width).view(rows, width) * 7919) % ITEMS
    return ids.masked_fill(ids % 7 == 0, -1)


class TestContract(OpContract):
    op = "gather_dot"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        users, items = (torch.randn(n, 3, generator=random, dtype=torch.float64) for n in (rows, ITEMS))
        return [users, items * scale]

    def call(self, inputs, backend="auto"):
        ids = ids_for(inputs[0].shape[0])
        scores = gather_dot(*inputs, ids, backend=backend)
        return scores.masked_fill(ids == -1, 0.0)

    def by_hand(self, inputs):
        users, items = inputs
        ids = ids_for(len(users))
        rows = [
            [sum(p * q for p, q in zip(u, items[i], strict=True)) if i >= 0 else 0.0 for i in r]
            for u, r in zip(users, ids, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def native_calls(self):
        op, backward = torch.ops.fastkd.gather_dot.default, torch.ops.fastkd.gather_dot_backward.default
        users, items = (t.float() for t in self.inputs(rows=3))
        ids, upstream = ids_for(3), torch.ones(3, 6)
        return [
            (op, (users.clone().requires_grad_(), items.clone().requires_grad_(), ids, True, "numba")),
            (op, (users, items, ids.int(), False, "numba")),
            (backward, (upstream, users, items, ids, True, True, "numba")),
            (backward, (upstream, users.bfloat16(), items, ids, True, False, "numba")),
        ]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_padding_is_minus_infinity_without_gradient(backend, dtype):
    users, items = wave(2, 3, 0.7).requires_grad_(), wave(4, 3, 0.3).requires_grad_()
    scores = gather_dot(users, items, torch.tensor([[-1, 2], [-1, -1]], dtype=dtype), backend=backend)
    assert scores.isinf().tolist() == [[True, False], [True, True]]
    assert (scores[scores.isinf()] < 0).all()
    scores.masked_fill(scores.isinf(), 0).sum().backward()
    assert_near(users.grad, torch.stack([items[2].detach(), torch.zeros(3, dtype=torch.float64)]))
    assert items.grad.any(1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [-2, 5, 2**40, -(2**40)])
def test_ids_out_of_range_are_named(backend, wrong):
    users, items = torch.zeros(2, 3), torch.zeros(5, 3)
    with pytest.raises(ValueError, match=rf"ids holds {wrong}, outside \[0, 5\) and not -1"):
        gather_dot(users, items, torch.tensor([[0, 4], [wrong, -1]]), backend=backend)


def test_unchecked_ids_touch_no_foreign_memory():
    users, items = torch.ones(2, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)
    ids = torch.tensor([[0, 2**40], [-(2**40), 5]])
    scores = gather_dot(users, items, ids, validate=False, backend="numba")
    scores.nan_to_num().sum().backward()
    assert scores.isnan().tolist() == [[False, True], [True, True]]
    assert items.grad.sum() == 3


@given(st.integers(0, 5), st.integers(0, 7), st.integers(0, 70), st.integers(1, 130), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_any_shape(rows, width, dim, count, seed):
    random = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    ids = torch.randint(0, count, (rows, width), generator=random)
    upstream = torch.randn(rows, width, generator=random, dtype=torch.float64)
    found = gather_dot(*leaves, ids, backend="numba")
    assert_near(found, (leaves[0] @ leaves[1].T).gather(1, ids))
    gradients = torch.autograd.grad(found, leaves, upstream)
    dense = torch.zeros(rows, count, dtype=torch.float64).scatter_add(1, ids, upstream)
    assert_near(gradients[0], dense @ leaves[1].detach())
    assert_near(gradients[1], dense.T @ leaves[0].detach())


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_with_its_vector(backend):
    users, items = wave(2, 3, 0.7), wave(4, 3, 0.3)
    users[1, 0] = torch.nan
    items[2, 2] = torch.nan
    scores = gather_dot(users, items, torch.tensor([[0, 2], [1, 3]]), backend=backend)
    assert scores.isnan().tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_mixed_dtypes_take_the_wider_under_autocast(backend):
    users, items = torch.ones(2, 3, dtype=torch.bfloat16).requires_grad_(), torch.ones(4, 3).double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        scores = gather_dot(users, items, torch.zeros(2, 1, dtype=torch.int64), backend=backend)
    scores.sum().backward()
    assert (scores.dtype, users.grad.dtype, items.grad.dtype) == (torch.float64, torch.bfloat16, torch.float64)


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"users must be Float\[B D\], got torch.int64"):
        gather_dot(users.long(), items, ids)
    with pytest.raises(TypeError, match=r"ids must be Int64\[B C\] \(or int32\), got torch.float32"):
        gather_dot(users, items, ids.float())
    with pytest.raises(TypeError, match=r"ids must be a tensor .* got list"):
        gather_dot(users, items, [[0]])
    with pytest.raises(ValueError, match=r"ids must be .* got shape \[2\]"):
        gather_dot(users, items, ids[:, 0])
    with pytest.raises(ValueError, match=r"users and items .* width D, got \[2, 3\] and \[5, 2\]"):
        gather_dot(users, items[:, :2], ids)
    with pytest.raises(ValueError, match=r"users and ids .* rows, got \[2, 3\] and \[1, 4\]"):
        gather_dot(users, items, ids[:1])
    with pytest.raises(ValueError, match=r"users and items .* same device, got cpu and meta"):
        gather_dot(users, items.to("meta"), ids)
