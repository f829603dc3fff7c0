from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import BackendError, Interactions
from fastkd.ops import rank_topk, score_topk_chunked
from tests.contracts.backends import backends_of

BACKENDS = backends_of("score_topk_chunked")
INF = math.inf


def exclusions(rows, num_items, share, seed=0):
    users, items = np.nonzero(np.random.default_rng(seed).random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


def by_hand(scores, k, seen):
    rows = []
    for b, row in enumerate(scores.float().tolist()):
        allowed = [i for i in range(len(row)) if seen is None or i not in seen.row(b)]
        allowed.sort(key=lambda i, row=row: (math.isnan(row[i]), 0.0 if math.isnan(row[i]) else -row[i], i))
        best = [(row[i], i) for i in allowed[:k]]
        rows.append(best + [(-INF, -1)] * (k - len(best)))
    shape = (len(scores), k)
    values = torch.tensor([[s for s, _ in r] for r in rows], dtype=torch.float32).view(shape)
    return values, torch.tensor([[i for _, i in r] for r in rows], dtype=torch.int64).view(shape)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_equals_the_definition_for_any_chunk(data):
    draw = data.draw
    rows, num_items = draw(st.integers(0, 6)), draw(st.integers(1, 200))
    k, chunk = draw(st.integers(0, num_items)), draw(st.integers(1, 220))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.integers(-3, 4, (rows, num_items)) if draw(st.booleans()) else random.normal(size=(rows, num_items))
    scores = torch.tensor(values, dtype=draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16])))
    scores[torch.tensor(random.random((rows, num_items)) < 0.1)] = draw(st.sampled_from([math.nan, INF, -INF]))
    share = draw(st.sampled_from([None, 0.1, 0.9, 1.0]))
    seen = None if share is None else exclusions(rows, num_items, share)
    expected = by_hand(scores, k, seen)
    for backend in BACKENDS:
        found = score_topk_chunked(
            lambda items: scores[:, items], num_items, k, batch=rows, exclude=seen, chunk=chunk, backend=backend
        )
        assert torch.equal(found.ids, expected[1])
        torch.testing.assert_close(found.scores, expected[0], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1.0, -1.0, 0.0])
def test_adversaries_of_a_running_threshold(backend, order):
    scores = (torch.arange(3000) * order).expand(2, -1)
    found = score_topk_chunked(lambda items: scores[:, items], 3000, 50, batch=2, chunk=700, backend=backend)
    expected = torch.arange(2999, 2949, -1) if order > 0 else torch.arange(50)
    assert torch.equal(found.ids, expected.expand(2, -1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_nan_last_then_padding_and_signed_zeros_tie(backend, chunk):
    scores = torch.tensor([[1.0, math.nan, -0.0, -INF, math.nan, 0.0, INF], [0.0] * 7, [math.nan] * 7])
    seen = Interactions.from_csr([0, 1, 8, 8], [0, *range(7)], 7)
    found = score_topk_chunked(
        lambda items: scores[:, items], 7, 7, batch=3, exclude=seen, chunk=chunk, backend=backend
    )
    assert found.ids.tolist() == [[6, 2, 5, 3, 1, 4, -1], [-1] * 7, list(range(7))]
    assert found.scores[0, :4].tolist() == [INF, 0.0, 0.0, -INF]
    assert not found.scores[0, 1:3].signbit().any()
    assert found.scores[0, 4:6].isnan().all()
    assert found.scores[0, 6] == -INF
    assert (found.scores[1] == -INF).all()
    assert found.scores[2].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("chunk", [13, 64, 500])
def test_the_whole_catalogue_in_order(backend, chunk):
    scores = torch.tensor(np.random.default_rng(0).integers(-3, 4, (4, 300)), dtype=torch.float32)
    found = score_topk_chunked(lambda items: scores[:, items], 300, 300, batch=4, chunk=chunk, backend=backend)
    assert torch.equal(found.ids, torch.sort(-scores, dim=1, stable=True).indices)
    assert torch.equal(found.scores, scores.gather(1, found.ids))


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_that_tie_once_rounded_go_by_id(backend):
    scores = torch.tensor([[1.0, 1.0 + 1e-12, 1.0 + 1e-3]], dtype=torch.float64)
    found = score_topk_chunked(lambda items: scores[:, items], 3, 3, batch=1, chunk=2, backend=backend)
    assert found.ids.tolist() == [[2, 0, 1]]
    assert found.scores.dtype == torch.float32


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_any_strides(backend):
    table = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    found = score_topk_chunked(lambda items: table[items].T, 50, 9, batch=4, chunk=20, backend=backend)
    assert torch.equal(found.ids, torch.topk(table.T, 9).indices)


def test_a_model_that_is_no_inner_product_is_ranked_as_its_scores():
    random = torch.Generator().manual_seed(0)
    users, items = torch.randn(6, 4, generator=random), torch.randn(400, 4, generator=random)
    distances = -torch.cdist(users, items)
    found = score_topk_chunked(lambda i: -torch.cdist(users, items)[:, i], 400, 10, batch=6, chunk=70)
    assert torch.equal(found.ids, torch.topk(distances, 10).indices)


def test_no_array_of_all_scores_is_made():
    widest = []

    def score(items):
        widest.append(len(items))
        return torch.zeros(3, len(items))

    assert score_topk_chunked(score, 100_000, 5, batch=3, chunk=1000).ids.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert max(widest) == 1000
    assert len(widest) == 100


def test_a_backend_without_a_kernel_is_refused():
    missing = {"triton"} - set(BACKENDS)
    for backend in missing:
        with pytest.raises(BackendError, match=backend):
            score_topk_chunked(lambda items: torch.zeros(1, len(items)), 5, 2, batch=1, backend=backend)


def test_agrees_with_rank_topk_where_the_score_is_an_inner_product():
    random = torch.Generator().manual_seed(0)
    users = torch.randint(-4, 5, (9, 8), generator=random).float()
    items = torch.randint(-4, 5, (500, 8), generator=random).float()
    seen = exclusions(9, 500, 0.3)
    found = score_topk_chunked(lambda i: users @ items[i].T, 500, 40, batch=9, exclude=seen, chunk=64)
    expected = rank_topk(users, items, 40, exclude=seen)
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.scores, expected.scores)


def test_the_callback_sees_each_item_once_outside_autograd():
    weight, seen = torch.ones(1, requires_grad=True), []

    def score(items):
        assert not torch.is_grad_enabled()
        seen.extend(items.tolist())
        return weight * items.expand(2, -1)

    found = score_topk_chunked(score, 10, 3, batch=2, chunk=4)
    assert seen == list(range(10))
    assert found.ids.tolist() == [[9, 8, 7]] * 2
    assert not found.scores.requires_grad


def test_the_callback_is_not_called_for_nothing():
    def score(items):
        raise AssertionError("called")

    assert score_topk_chunked(score, 10, 3, batch=0).ids.shape == (0, 3)
    assert score_topk_chunked(score, 10, 0, batch=2).ids.shape == (2, 0)
    assert score_topk_chunked(score, 0, 0, batch=2).ids.shape == (2, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 11}, r"k must be in \[0, 10\].*got 11"),
        ({"num_items": -2}, "num_items must be an integer of at least 0, got -2"),
        ({"batch": 1.5}, "batch must be an integer of at least 0, got 1.5"),
        ({"chunk": 0}, "chunk must be an integer of at least 1, got 0"),
        ({"exclude": Interactions.empty(4, 10)}, "4 rows for 2 users"),
        ({"score_fn": lambda items: torch.zeros(3, len(items))}, r"= \[2, 10\], got \[3, 10\]"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"score_fn": lambda items: torch.zeros(2, len(items)), "num_items": 10, "k": 2, "batch": 2, **change}
    with pytest.raises(ValueError, match=message):
        score_topk_chunked(arguments.pop("score_fn"), arguments.pop("num_items"), arguments.pop("k"), **arguments)
    with pytest.raises(TypeError, match=r"floating-point tensor, got torch\.int64"):
        score_topk_chunked(lambda items: items.expand(2, -1), 10, 2, batch=2)


def test_opcheck():
    best = torch.full((2, 3), -INF), torch.full((2, 3), -1)
    seen = exclusions(2, 20, 0.3)
    op = torch.ops.fastkd.score_topk_chunked.default
    torch.library.opcheck(op, (*best, torch.rand(2, 20), 0, *seen.to_torch(), "numba"))
