from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.ops import gather_dot, relaxed_ranking, relaxed_ranking_from_embeddings
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, wave
from tests.contracts.op_contract import OpContract
from tests.ops.test_relaxed_ranking import by_hand

OP = "relaxed_ranking_from_embeddings"
BACKENDS = backends_of(OP)
NATIVE = torch.ops.fastkd.relaxed_ranking_from_embeddings.default
BACKWARD = torch.ops.fastkd.relaxed_ranking_from_embeddings_backward.default


class TestContract(OpContract):
    op = OP
    weighted = False

    def count(self, rows):
        return 8 if rows <= 3 else 30  # few numbers to differentiate by

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        users, items = (torch.randn(n, 3, generator=random, dtype=torch.float64) for n in (rows, self.count(rows)))
        return [users, items * scale]

    def lists(self, rows):
        lists = [(torch.arange(rows * w).view(rows, w) * 7919 + 31 * s) % self.count(rows) for w, s in ((4, 1), (6, 2))]
        return [ids.masked_fill(ids % 7 == 0, -1) for ids in lists]

    def weights(self, rows):
        return 0.25 + 0.05 * torch.arange(rows * 4).view(rows, 4) if self.weighted else None

    def call(self, inputs, backend="auto"):
        device, rows = inputs[0].device, inputs[0].shape[0]
        weights = self.weights(rows)
        weights = None if weights is None else weights.to(device)
        lists = [ids.to(device) for ids in self.lists(rows)]
        return relaxed_ranking_from_embeddings(*inputs, *lists, weights=weights, backend=backend)

    def by_hand(self, inputs):
        users, items = inputs
        full = users @ items.T
        scores = [full.gather(1, t.clamp(min=0)).masked_fill(t < 0, -math.inf) for t in self.lists(len(users))]
        return by_hand(*scores, self.weights(len(users)))

    def native_calls(self):
        users, items = (t.float() for t in self.inputs(rows=3))
        lists, weights = self.lists(3), 0.5 + torch.rand(3, 4)
        leaves = users.clone().requires_grad_(), items.clone().requires_grad_()
        made = NATIVE(users, items, *lists, None, True, True, True, "numba")
        return [
            (NATIVE, (*leaves, *lists, None, True, False, False, "numba")),
            (NATIVE, (users, items, *(t.int() for t in lists), weights, False, True, False, "numba")),
            (BACKWARD, (torch.ones(3), *made[1:], users, items.bfloat16(), True, True, "numba")),
        ]


class TestWeighted(TestContract):
    weighted = True

    # What does not depend on weights is tested above.
    test_opcheck = test_calls_from_several_threads_at_once = test_autocast = test_no_rows = None
    test_backends_are_obeyed_or_refused = test_strides_do_not_matter = test_backward_twice_gives_the_same = None


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_composition(backend):
    users, items = wave(3, 4, 0.3), wave(20, 4, 0.8)
    ranked, unranked = torch.tensor([[1, 5, -1], [0, 19, 2], [-1, -1, -1]]), torch.tensor([[3], [3], [-1]])
    weights = torch.rand(3, 3)
    expected = relaxed_ranking(
        gather_dot(users, items, ranked), gather_dot(users, items, unranked), weights=weights, backend="reference"
    )
    found = relaxed_ranking_from_embeddings(users, items, ranked, unranked, weights=weights, backend=backend)
    assert_near(found, expected)
    assert found[2] == 0


SHAPES = [(3, 2, 1, 0, 5), (5, 7, 3, 40, 1), (2, 150, 20, 30, 40), (2, 40, 130, 5, 300), (1, 300, 3, 90, 600)]


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize(("rows", "dim", "ranked", "unranked", "count"), SHAPES)
def test_any_shape(backend, rows, dim, ranked, unranked, count):
    random = torch.Generator().manual_seed(dim)
    leaves = [torch.randn(n, dim, generator=random, dtype=torch.float64).requires_grad_() for n in (rows, count)]
    lists = [torch.randint(-1, count, (rows, w), generator=random) for w in (ranked, unranked)]
    upstream = torch.randn(rows, generator=random, dtype=torch.float64)
    results = []
    for name in (backend, "reference"):
        loss = relaxed_ranking_from_embeddings(*leaves, *lists, backend=name)
        results.append((loss, *torch.autograd.grad(loss, leaves, upstream)))
    for found, expected in zip(*results, strict=True):
        assert_near(found, expected, scale=1.0)  # the coefficients of a row cancel


@given(st.integers(0, 4), st.integers(0, 6), st.integers(0, 5), st.integers(0, 7), st.sampled_from([1.0, 30.0, 1e4]))
@settings(deadline=None, max_examples=30)
def test_the_gradient_of_a_row_sums_to_that_of_its_scores(rows, dim, ranked, unranked, scale):
    """Shifting all scores of a row changes nothing, so its coefficients sum to 0."""
    random = torch.Generator().manual_seed(dim)
    users, items = (torch.randn(n, dim, generator=random, dtype=torch.float64) for n in (rows, 9))
    lists = [torch.randint(-1, 9, (rows, w), generator=random) for w in (ranked, unranked)]
    loss, coefficients, keys, _ = NATIVE(users * scale, items, *lists, None, True, False, True, "numba")
    assert loss.shape == (rows,)
    assert torch.equal(keys, torch.cat(lists, 1).int())
    assert_near(coefficients.sum(1), torch.zeros(rows).double(), scale=1.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_unranked_is_listmle(backend):
    users, items, ids = wave(2, 3, 0.3), wave(9, 3, 0.8), torch.tensor([[4, 0, 8], [1, 1, 2]])
    found = relaxed_ranking_from_embeddings(users, items, ids, ids[:, :0], backend=backend)
    scores = (users @ items.T).gather(1, ids)
    assert_near(found, by_hand(scores, scores[:, :0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_with_its_row(backend):
    users, items = wave(3, 3, 0.7), wave(6, 3, 0.3)
    users[1, 0] = torch.nan
    lists = torch.tensor([[0, 2], [1, 3], [5, 4]]), torch.tensor([[1], [0], [2]])
    loss = relaxed_ranking_from_embeddings(users, items, *lists, validate=False, backend=backend)
    assert loss.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("which", "wrong"), [("ranked_ids", -2), ("unranked_ids", 9), ("unranked_ids", 2**40)])
def test_ids_out_of_range_are_named(backend, which, wrong):
    lists = {"ranked_ids": torch.zeros(2, 3).long(), "unranked_ids": torch.zeros(2, 1).long()}
    lists[which][1, 0] = wrong
    with pytest.raises(ValueError, match=rf"{which} holds {wrong}, outside \[0, 9\) and not -1"):
        relaxed_ranking_from_embeddings(torch.zeros(2, 3), torch.zeros(9, 3), **lists, backend=backend)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
def test_unchecked_ids_touch_no_foreign_memory(backend):
    users, items = torch.ones(2, 3, requires_grad=True), torch.ones(5, 3, requires_grad=True)
    ids = torch.tensor([[0, 2**40], [1, 4]])
    loss = relaxed_ranking_from_embeddings(users, items, ids, ids[:, :0], validate=False, backend=backend)
    loss[1].backward()
    assert loss.isnan().tolist() == [True, False]
    assert not items.grad[[0, 2, 3]].nan_to_num().any()


def test_bad_arguments_are_named():
    users, items, ids = torch.zeros(2, 3), torch.zeros(9, 3), torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"unranked_ids must be Int64\[B L\] \(or int32\), got torch.float32"):
        relaxed_ranking_from_embeddings(users, items, ids, ids.float())
    with pytest.raises(ValueError, match=r"users and ranked_ids .* got \[2, 3\] and \[1, 4\]"):
        relaxed_ranking_from_embeddings(users, items, ids[:1], ids)
    with pytest.raises(ValueError, match=r"users and items .* width D, got \[2, 3\] and \[9, 2\]"):
        relaxed_ranking_from_embeddings(users, items[:, :2], ids, ids)
    with pytest.raises(ValueError, match=r"weights must be shaped like ranked_ids, \[2, 4\], got \[2, 3\]"):
        relaxed_ranking_from_embeddings(users, items, ids, ids, weights=users)
    with pytest.raises(ValueError, match=r"same device, got cpu and meta"):
        relaxed_ranking_from_embeddings(users, items, ids.to("meta"), ids)
