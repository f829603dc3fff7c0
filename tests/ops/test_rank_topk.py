from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import BackendError, Interactions
from fastkd.kernels.numba import _topk_plan as plan
from fastkd.kernels.numba import rank_topk as kernel
from fastkd.ops import explain_rank_topk, rank_topk, score_topk_chunked
from tests.contracts.backends import backends_of, interpreted
from tests.contracts.op_contract import without_interpreter
from tests.ops.rank_topk_truth import INF, assert_same, by_hand, normal, random_exclusions, ranked

BACKENDS = backends_of("rank_topk")
NATIVE = [b for b in BACKENDS if b != "reference"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_the_definition(backend, dtype):
    users, items = normal(5, 7).to(dtype), normal(40, 7, seed=1).to(dtype)
    seen, bias = random_exclusions(5, 40, 0.4, 0), normal(40, seed=2)
    assert_same(ranked(users, items, 12, backend=backend), by_hand(users, items, 12))
    assert_same(
        ranked(users, items, 30, exclude=seen, item_bias=bias, backend=backend), by_hand(users, items, 30, seen, bias)
    )


def any_call(draw, most_rows, most_items, most_dim):
    """Tables with ties, huge and tiny values, NaN and infinities; a bias; exclusions of any share; a precision."""
    rows, num_items = draw(st.integers(0, most_rows)), draw(st.integers(1, most_items))
    dim = draw(st.integers(1, most_dim))
    k = draw(st.integers(0, num_items) | st.integers(0, min(num_items, 12)))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):  # whole numbers: many ties
        tables = [random.integers(-2, 3, (n, dim)) for n in (rows, num_items)]
    else:
        scale = 10.0 ** draw(st.integers(-20, 18))
        tables = [random.normal(size=(n, dim)) * scale for n in (rows, num_items)]
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    users, items = (torch.tensor(t, dtype=torch.float32).to(dtype) for t in tables)
    if draw(st.integers(0, 3)) == 0:
        items[random.random(num_items) < 0.05, 0] = draw(st.sampled_from([math.nan, INF, -INF]))
    bias = None
    if draw(st.booleans()):
        bias = torch.tensor(random.normal(size=num_items), dtype=torch.float32)
        bias[random.random(num_items) < 0.3] = draw(st.sampled_from([-INF, INF, math.nan, 0.0]))
    share = draw(st.sampled_from([None, 0.02, 0.5, 0.98, 1.0]))
    seen = None if share is None else random_exclusions(rows, num_items, share, 1)
    precision = draw(st.sampled_from(["exact", "exact", "fast"]))
    return (users, items, k), {"exclude": seen, "item_bias": bias, "precision": precision}


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_numba_agrees_with_the_reference_bit_for_bit(data):
    arguments, options = any_call(data.draw, 40, 600, 70)
    with pytest.MonkeyPatch.context() as patch:  # small buffers and tiles, so that small data reach every branch
        patch.setattr(plan, "SLACK", data.draw(st.sampled_from([64, 128, 512])))
        patch.setattr(plan, "_TILE_BYTES", data.draw(st.sampled_from([1 << 10, 1 << 12, 1 << 14, 1 << 23])))
        patch.setattr(plan, "_PARALLEL", data.draw(st.sampled_from([0, 1 << 60])))
        if data.draw(st.booleans()):
            patch.setattr(kernel, "rank_small", lambda *_: None)  # few users on the way for many
        found = rank_topk(*arguments, backend="numba", **options)
    assert_same(found, rank_topk(*arguments, backend="reference", **options))


@pytest.mark.skipif("triton" not in BACKENDS, reason="no triton kernel")
@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_triton_agrees_with_the_reference_bit_for_bit(data):
    small = interpreted("triton")
    arguments, options = any_call(data.draw, 6 if small else 300, 200 if small else 5000, 20 if small else 200)
    expected = rank_topk(*arguments, backend="reference", **options)
    assert_same(ranked(*arguments, backend="triton", **options), expected)


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("k", [1, 10, 700, 4096])
@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "sawtooth"])
def test_adversaries_of_a_running_threshold(k, order, backend):
    n = 5000
    if interpreted(backend):
        if k > 10:
            pytest.skip("slow in the interpreter; large k has a case of its own")
        n = 600
    values = {
        "ascending": torch.arange(n).float(),
        "descending": -torch.arange(n).float(),
        "equal": torch.ones(n),
        "sawtooth": (torch.arange(n) % 7).float(),
    }[order]
    users, items = torch.full((3, 1), 0.5), values[:, None]
    expected = torch.sort(-values, stable=True).indices[:k]
    scores, ids = ranked(users, items, k, backend=backend)
    assert all(torch.equal(row, expected) for row in ids)
    assert torch.equal(scores, (0.5 * values[expected]).expand(3, k))


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize(("dim", "k"), [(1, 3), (17, 64), (256, 5), (257, 5), (1024, 7)])
def test_any_width(dim, k, backend):
    n = 131 if interpreted(backend) else 1501
    users, items = normal(3, dim), normal(n, dim, seed=1)
    expected = rank_topk(users, items, k, backend="reference")
    assert_same(ranked(users, items, k, backend=backend), expected)


@pytest.mark.parametrize("backend", NATIVE)
def test_k_in_the_thousands_and_everything(backend):
    users, items = normal(2, 4), normal(4500, 4, seed=1)
    for k in (4096, 4500):
        assert_same(ranked(users, items, k, backend=backend), rank_topk(users, items, k, backend="reference"))
        if interpreted(backend):
            return


@pytest.mark.parametrize("backend", BACKENDS)
def test_histories_of_any_length(backend):
    # One user without a history, one with a long one, one who has had all but 3 items, one who has had all.
    n = 700 if interpreted(backend) else 120_000
    long = 600 if interpreted(backend) else 100_000
    users, items = normal(4, 3), normal(n, 3, seed=1)
    random = np.random.default_rng(0)
    rows = [[], np.sort(random.permutation(n)[:long]), np.sort(random.permutation(n)[3:]), np.arange(n)]
    indptr = np.cumsum([0, *map(len, rows)])
    seen = Interactions.from_csr(indptr, np.concatenate(rows).astype(np.int64), n)
    scores, ids = ranked(users, items, 5, exclude=seen, backend=backend)
    exact = (users.double()[:, None, :] * items.double()).sum(-1).float()
    for b, row in enumerate(rows):
        left = np.setdiff1d(np.arange(n), row)
        best = left[np.lexsort((left, -exact[b, left].numpy()))][:5]
        assert ids[b].tolist() == [*best.tolist(), *[-1] * (5 - len(best))]
        assert (scores[b, len(best) :] == -INF).all()


def test_autocast_and_gradients_stay_outside():
    users, items = normal(4, 16).requires_grad_(), normal(500, 16, seed=1).requires_grad_()
    expected = rank_topk(users.detach(), items.detach(), 9)
    for backend in BACKENDS:
        with torch.autocast("cpu", torch.bfloat16):
            found = ranked(users, items, 9, backend=backend)
        assert not found[0].requires_grad
        assert_same(found, expected)
        with torch.inference_mode():
            assert_same(ranked(users, items, 9, backend=backend), expected)


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # numpy, on behalf of the interpreter
@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_vectors_cost_the_others_nothing_and_check_names_them(backend):
    users, items = normal(3, 4), normal(50, 4, seed=1)
    users[1, 2] = math.nan
    items[[7, 30]] = math.nan
    scores, ids = ranked(users, items, 50, backend=backend)
    assert ids[1].tolist() == list(range(50))
    assert scores[1].isnan().all()
    for b in (0, 2):
        assert ids[b, -2:].tolist() == [7, 30]
        assert not scores[b, :-2].isnan().any()
    with pytest.raises(ValueError, match=r"user 1 .* holds nan"):
        ranked(users, items, 3, check=True, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend):
    users, items = normal(4, 10), normal(50, 10, seed=1)
    strided = [torch.stack([t, torch.full_like(t, math.nan)], dim=-1)[..., 0] for t in (users, items)]
    assert_same(ranked(*strided, 7, backend=backend), rank_topk(users, items, 7))
    assert_same(ranked(users.T.contiguous().T, items, 7, backend=backend), rank_topk(users, items, 7))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_last_then_padding(backend):
    users = torch.tensor([[1.0, 0.0]])
    items = torch.tensor([[1.0, 0], [math.nan, 0], [3, 0], [-INF, 1], [math.nan, 1], [2, 0], [INF, 1]])
    seen = Interactions.from_csr([0, 1], [2], 7)
    scores, ids = ranked(users, items, 7, exclude=seen, backend=backend)
    assert ids.tolist() == [[6, 5, 0, 3, 1, 4, -1]]
    assert scores[0, :4].tolist() == [INF, 2.0, 1.0, -INF]
    assert scores[0, 4:6].isnan().all()
    assert scores[0, 6] == -INF


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_of_minus_infinity_is_no_mask(backend):
    items = torch.tensor([[1.0], [2.0], [3.0]])
    bias = torch.tensor([0.0, -INF, -INF])
    seen = Interactions.from_csr([0, 1], [2], 3)
    found = ranked(torch.ones(1, 1), items, 3, exclude=seen, item_bias=bias, backend=backend)
    assert found[1].tolist() == [[0, 1, -1]]
    assert found[0].tolist() == [[1.0, -INF, -INF]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_signed_zeros_tie(backend):
    found = ranked(torch.ones(1, 1), torch.tensor([[-0.0], [0.0], [-0.0]]), 3, backend=backend)
    assert found[1].tolist() == [[0, 1, 2]]
    assert not found[0].signbit().any()


def test_sums_that_overflow_on_the_way_are_ranked_exactly():
    users = torch.tensor([[1e20, 1e20, 1e20], [1.0, 1.0, 1.0]])
    items = torch.tensor([[1e19, -1e19, 1.0], [1e19, -1e19, 2.0], [1e19, -1e19, 3.0], [-1e19, 0.0, 0.0]])
    for backend in BACKENDS:
        assert_same(ranked(users, items, 4, backend=backend), by_hand(users, items, 4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_shapes(backend):
    assert ranked(torch.empty(0, 3), normal(5, 3), 2, backend=backend)[1].shape == (0, 2)
    assert ranked(normal(4, 3), normal(5, 3), 0, backend=backend)[0].shape == (4, 0)
    assert ranked(normal(4, 3), torch.empty(0, 3), 0, backend=backend)[1].shape == (4, 0)
    flat = ranked(torch.empty(2, 0), torch.empty(5, 0), 5, backend=backend)
    assert flat[1].tolist() == [[0, 1, 2, 3, 4]] * 2
    everything = Interactions.from_csr([0, 2], [0, 1], 2)
    assert ranked(normal(1, 3), normal(2, 3), 2, exclude=everything, backend=backend)[1].tolist() == [[-1, -1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 6}, r"k must be in \[0, 5\].*got 6"),
        ({"k": -1}, "got -1"),
        ({"users": torch.zeros(2, 4)}, r"\[2, 4\] and \[5, 3\]"),
        ({"users": torch.zeros(3)}, r"users must be .*\[B D\].*\[3\]"),
        ({"item_bias": torch.zeros(4)}, "5 items, got 4"),
        ({"exclude": Interactions.empty(3, 5)}, "3 rows for 2 users"),
        ({"exclude": Interactions.empty(2, 6)}, "6 items, the catalogue has 5"),
        ({"precision": "faster"}, "got 'faster'"),
        ({"check": True, "users": torch.tensor([[0.0] * 3, [1.0, math.nan, 2.0]])}, "user 1 .* holds nan"),
        ({"check": True, "items": torch.tensor([[0.0] * 3] * 4 + [[0.0, 0.0, -INF]])}, "item 4 .* holds -inf"),
        ({"check": True, "item_bias": torch.tensor([0.0, 0, math.nan, 0, 0])}, "item 2 is nan"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"users": torch.zeros(2, 3), "items": torch.zeros(5, 3), "k": 2, **change}
    with pytest.raises(ValueError, match=message):
        rank_topk(arguments.pop("users"), arguments.pop("items"), arguments.pop("k"), **arguments)


def test_k_is_any_integer():
    users, items = normal(2, 3), normal(5, 3)
    expected = rank_topk(users, items, 2)
    for k in (np.int64(2), np.uint8(2), np.int32(2)):
        assert torch.equal(rank_topk(users, items, k).ids, expected.ids)
        assert explain_rank_topk(2, 5, 3, k).shape == (2, 5, 3, 2)
        assert torch.equal(score_topk_chunked(lambda i: users @ items[i].T, 5, k, batch=2).ids, expected.ids)
    with pytest.raises(ValueError, match=r"k must be in \[0, 5\].*got 6"):
        rank_topk(users, items, np.int64(6))
    torch.compiler.reset()
    compiled = torch.compile(lambda k: rank_topk(users, items, k).ids, fullgraph=True, dynamic=True, backend="eager")
    for k in (2, 3, 4, np.int64(2)):
        assert torch.equal(compiled(k), rank_topk(users, items, k).ids)


@pytest.mark.parametrize("k", [True, np.True_, 2.0, np.float32(2), torch.tensor(2), "2", None])
def test_k_that_is_none_is_named(k):
    with pytest.raises(TypeError, match=rf"k must be an integer, got {re.escape(repr(k))}"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3), k)


def test_wrong_types_are_named(monkeypatch):
    with pytest.raises(TypeError, match=r"items must be .*int64"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3, dtype=torch.int64), 2)
    with pytest.raises(TypeError, match=r"users torch\.float64 and items torch\.float16.*users\.to\(torch\.float16\)"):
        rank_topk(torch.zeros(2, 3).double(), torch.zeros(5, 3).half(), 2)
    with pytest.raises(TypeError, match="exclude must be Interactions, got list"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3), 2, exclude=[])
    with without_interpreter(monkeypatch), pytest.raises(BackendError, match="triton"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3), 2, backend="triton")


def test_opcheck():
    seen = random_exclusions(3, 20, 0.3, 0)
    op = torch.ops.fastkd.rank_topk.default
    torch.library.opcheck(op, (normal(3, 4), normal(20, 4), 5, *seen.to_torch(), normal(20), False, "numba"))
    torch.library.opcheck(op, (normal(3, 4), normal(20, 4), 5, None, None, None, True, "numba"))
