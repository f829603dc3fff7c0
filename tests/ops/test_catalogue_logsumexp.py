from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core.interactions import Interactions
from fastkd.ops import catalogue_logsumexp
from tests.contracts.backends import backends_of, device_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.op_contract import OpContract
from tests.ops.catalogue_cases import ITEMS, HalfPrecision, excluded_for, small_tiles, tables_for

BACKENDS = backends_of("catalogue_logsumexp")


class TestContract(HalfPrecision, OpContract):
    op = "catalogue_logsumexp"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        return tables_for(rows, scale)

    def call(self, inputs, backend="auto"):
        out = excluded_for(inputs[0])
        return catalogue_logsumexp(*inputs, out, temperature=1.7, backend=backend)

    def by_hand(self, inputs):
        users, items = inputs
        values = []
        for u, out in zip(users, excluded_for(users).tolist(), strict=True):
            scores = [float(u @ v) / 1.7 for i, v in enumerate(items) if i not in out]
            top = max(scores)
            values.append(top + math.log(math.fsum(math.exp(s - top) for s in scores)))
        return torch.tensor(values, dtype=torch.float64)

    def native_calls(self):
        forward = torch.ops.fastkd.catalogue_logsumexp.default
        backward = torch.ops.fastkd.catalogue_logsumexp_backward.default
        users, items = (t.float() for t in self.inputs(rows=3))
        leaves, stats = (users.clone().requires_grad_(), items.clone().requires_grad_()), torch.ones(3)
        return [
            (forward, (*leaves, None, None, None, 0.5, False, "numba")),
            (forward, (users, items, None, None, torch.ones(len(items)), 0.5, True, "numba")),
            (backward, (stats, users, items.bfloat16(), None, None, None, stats, stats, 1.0, "numba")),
        ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_excluded_is_left_out_and_not_subtracted(backend):
    device = device_of(backend)
    users = torch.ones(1, 1, device=device)
    items = torch.tensor([[0.0], [1000.0], [1.0], [999.0]], device=device)
    found = catalogue_logsumexp(users, items, torch.tensor([[3, -1, 1, 3]], device=device), backend=backend)
    assert found.item() == pytest.approx(math.log(1 + math.e), rel=2 * torch.finfo(torch.float32).eps)
    assert catalogue_logsumexp(users, items, torch.arange(4, device=device)[None], backend=backend).item() == -math.inf


@pytest.mark.parametrize("backend", BACKENDS)
def test_interactions_mean_the_same_as_padded_ids(backend):
    users, items = (t.float().to(device_of(backend)).requires_grad_() for t in tables_for(5, 1.0))
    ids = torch.tensor([[3, 8, -1], [0, 1, 2], [-1, -1, -1], [9, 36, 3], [5, -1, 7]], device=users.device)
    lists = [[i for i in row if i >= 0] for row in ids.tolist()]
    pairs = [(b, i) for b, row in enumerate(lists) for i in row]
    interactions = Interactions.from_pairs(*zip(*pairs, strict=True), num_users=5, num_items=ITEMS)
    # The same lists as rows of somebody else's, in another order.
    order = torch.tensor([4, 0, 3, 1, 2], device=users.device)
    results = []
    for exclude in (ids, interactions, (interactions.rows(order.argsort().cpu().numpy()), order)):
        value = catalogue_logsumexp(users, items, exclude, backend=backend)
        results.append((value, *torch.autograd.grad(value.square().sum(), (users, items))))
    for a, b, c in zip(*results, strict=True):
        assert_near(a, b, hair=8)
        assert torch.equal(b, c)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bias_is_added_and_may_leave_items_out(backend):
    users, items = (t.to(device_of(backend)) for t in tables_for(4, 1.0))
    bias = torch.linspace(-3, 3, ITEMS, dtype=torch.float64, device=users.device)
    bias[::3] = -torch.inf
    expected = (users @ items.T / 2 + bias).logsumexp(1)
    found = catalogue_logsumexp(users, items, temperature=2, item_bias=bias, backend=backend)
    assert_near(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_that_leaves_nothing_has_no_gradient(backend):
    users, items = (t.to(device_of(backend)).requires_grad_() for t in tables_for(4, 1.0))
    bias = torch.full((ITEMS,), -torch.inf, dtype=torch.float64, device=users.device)
    found = catalogue_logsumexp(users, items, item_bias=bias, backend=backend)
    assert (found == -torch.inf).all()
    found.sum().backward()
    assert not users.grad.any()
    assert not items.grad.any()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter computes with numpy
@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_with_its_user(backend):
    users, items = (t.to(device_of(backend)).float() for t in tables_for(4, 1.0))
    users[2, 0] = torch.nan
    found = catalogue_logsumexp(users, items, validate=False, backend=backend)
    assert found.isnan().tolist() == [False, False, True, False]


@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 90), st.integers(0, 12), st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_any_shape(rows, dim, count, width, seed):
    random = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    exclude = torch.randint(-1, max(count, 1), (rows, width), generator=random).clamp(max=count - 1)
    upstream = torch.randn(rows, generator=random, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        small_tiles(patch)
        found = catalogue_logsumexp(*leaves, exclude, backend="numba")
        gradients = torch.autograd.grad(found, leaves, upstream)
    expected = catalogue_logsumexp(*leaves, exclude, backend="reference")
    assert_near(found, expected)
    allowed = expected != -torch.inf
    for a, b in zip(gradients, torch.autograd.grad(expected[allowed], leaves, upstream[allowed]), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dim", [1, 40])
def test_widths_past_one_block_of_dimensions(backend, dim):
    leaves = [wave(n, dim, 0.7).to(device_of(backend)).requires_grad_() for n in (3, 40)]
    found, expected = (catalogue_logsumexp(*leaves, backend=b) for b in (backend, "reference"))
    assert_near(found, expected)
    pairs = zip(*(torch.autograd.grad(v.square().sum(), leaves) for v in (found, expected)), strict=True)
    for a, b in pairs:
        assert_near(a, b)


def test_bad_arguments_are_named():
    users, items = torch.zeros(2, 3), torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"exclude holds 5, outside \[0, 5\)"):
        catalogue_logsumexp(users, items, torch.tensor([[5], [0]]))
    with pytest.raises(TypeError, match=r"exclude must be Interactions, \(Interactions, rows Int64\[B\]\) or ids"):
        catalogue_logsumexp(users, items, [[1]])
    for wrong, row in (([0, 3], 3), ([-1, 0], -1)):
        with pytest.raises(ValueError, match=rf"rows of exclude hold {row}, outside \[0, 3\)"):
            catalogue_logsumexp(users, items, (Interactions.empty(3, 5), torch.tensor(wrong)))
    with pytest.raises(ValueError, match="users and rows of exclude must have the same number of rows"):
        catalogue_logsumexp(users, items, (Interactions.empty(3, 5), torch.tensor([1])))
    with pytest.raises(ValueError, match="exclude has 3 rows for 2 users"):
        catalogue_logsumexp(users, items, Interactions.empty(3, 5))
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got 0"):
        catalogue_logsumexp(users, items, temperature=0)
    with pytest.raises(TypeError, match="temperature must be a number, got a tensor"):
        catalogue_logsumexp(users, items, temperature=torch.ones(()))
    with pytest.raises(ValueError, match=r"same width D, got \[2, 3\] and \[5, 2\]"):
        catalogue_logsumexp(users, items[:, :2])
    with pytest.raises(ValueError, match="item_bias must have one value for each of 5 items, got 4"):
        catalogue_logsumexp(users, items, item_bias=torch.zeros(4))
    with pytest.raises(ValueError, match="item_bias is a constant"):
        catalogue_logsumexp(users, items, item_bias=torch.zeros(5, requires_grad=True))
