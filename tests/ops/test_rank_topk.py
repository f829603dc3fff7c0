from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import BackendError, Interactions
from fastkd.kernels.numba import rank_topk as kernel
from fastkd.kernels.numba._blocks import run_blocks
from fastkd.ops import rank_topk

BACKENDS = ("reference", "numba")
INF = math.inf


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(users, items, k, seen=None, bias=None):
    """The definition, one Python float at a time."""
    rows = []
    for b, u in enumerate(users.tolist()):
        ranked = []
        for i, v in enumerate(items.tolist()):
            total = 0.0
            for x, y in zip(u, v, strict=True):
                total += x * y
            with np.errstate(over="ignore", invalid="ignore"):
                score = np.float32(total) + (np.float32(0) if bias is None else np.float32(bias[i]))
            if seen is None or i not in seen.row(b):
                ranked.append((math.isnan(score), -score if score == score else 0.0, i, float(score)))
        best = [(s, i) for _, _, i, s in sorted(ranked)[:k]]
        rows.append(best + [(-INF, -1)] * (k - len(best)))
    shape = (len(users), k)
    scores = torch.tensor([[s for s, _ in r] for r in rows], dtype=torch.float32).view(shape)
    return scores, torch.tensor([[i for _, i in r] for r in rows], dtype=torch.int64).view(shape)


def assert_same(found, expected):
    assert found[1].dtype == torch.int64
    assert found[0].dtype == torch.float32
    assert torch.equal(found[1], expected[1])
    # Bits, so that NaN equals NaN; adding 0.0 spells -0.0 as 0.0.
    assert torch.equal((found[0]).view(torch.int32), (expected[0] + 0.0).view(torch.int32))


def random_exclusions(rows, num_items, share, seed):
    random = np.random.default_rng(seed)
    users, items = np.nonzero(random.random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_equals_the_definition(backend, dtype):
    users, items = normal(5, 7).to(dtype), normal(40, 7, seed=1).to(dtype)
    seen, bias = random_exclusions(5, 40, 0.4, 0), normal(40, seed=2)
    assert_same(rank_topk(users, items, 12, backend=backend), by_hand(users, items, 12))
    assert_same(
        rank_topk(users, items, 30, exclude=seen, item_bias=bias, backend=backend),
        by_hand(users, items, 30, seen, bias),
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_backends_agree_bit_for_bit(data):
    draw = data.draw
    rows, num_items, dim = draw(st.integers(0, 40)), draw(st.integers(1, 600)), draw(st.integers(1, 70))
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
    with pytest.MonkeyPatch.context() as patch:  # small buffers and tiles, so that small data reach every branch
        patch.setattr(kernel, "_SLACK", draw(st.sampled_from([64, 100, 512])))
        patch.setattr(kernel, "_TILE_BYTES", draw(st.sampled_from([1 << 12, 1 << 14, 1 << 23])))
        found = rank_topk(users, items, k, exclude=seen, item_bias=bias, backend="numba")
    assert_same(found, rank_topk(users, items, k, exclude=seen, item_bias=bias, backend="reference"))


@pytest.mark.parametrize("k", [1, 10, 700, 4096, 5000])
@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "sawtooth"])
def test_adversaries_of_a_running_threshold(k, order):
    n = 5000
    values = {
        "ascending": torch.arange(n).float(),
        "descending": -torch.arange(n).float(),
        "equal": torch.ones(n),
        "sawtooth": (torch.arange(n) % 7).float(),
    }[order]
    users, items = torch.full((3, 1), 0.5), values[:, None]
    expected = torch.sort(-values, stable=True).indices[:k]
    found = rank_topk(users, items, k, backend="numba")
    assert all(torch.equal(row, expected) for row in found.ids)
    assert torch.equal(found.scores, (0.5 * values[expected]).expand(3, k))


def test_items_closer_than_blas_rounds_are_told_apart():
    # 3000 items whose scores differ by less than a float32 sum of 64 terms errs.
    users, base = normal(6, 64) * 30, normal(1, 64, seed=1)
    items = base + normal(3000, 64, seed=2) * 1e-6
    found = rank_topk(users, items, 20, backend="numba")
    assert_same(found, rank_topk(users, items, 20, backend="reference"))
    blas = torch.sort(-(users @ items.T), dim=1, stable=True).indices[:, :20]
    assert not torch.equal(blas, found.ids), "the case is too easy to show anything"


def test_noise_inside_the_margin_leaves_no_trace(monkeypatch):
    users, items = normal(9, 32), normal(3000, 32, seed=1)
    expected, plain, noise = rank_topk(users, items, 30), torch.mm, torch.Generator().manual_seed(7)
    margins = kernel._margins(users, items, np.zeros(0, dtype=np.float32))
    largest = []

    def noisy(a, b, out):
        plain(a, b, out=out)
        shift = (torch.rand(out.shape, generator=noise) * 2 - 1) * float(margins.min()) * 0.9
        largest.append(float(shift.abs().max()))
        return out.add_(shift)

    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "mm", noisy)
    try:
        torch.set_num_threads(1)
        assert_same(rank_topk(users, items, 30, backend="numba"), expected)
    finally:
        torch.set_num_threads(threads)
    assert max(largest) > 0


@pytest.mark.parametrize("setting", ["medium", "high"])
def test_reduced_matmul_precision_changes_nothing(setting):
    users, items = normal(70, 48), normal(2000, 48, seed=1)
    expected, before = rank_topk(users, items, 25), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        margins = kernel._margins(users, items, np.zeros(0, dtype=np.float32))
        assert_same(rank_topk(users, items, 25, backend="numba"), expected)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (margins > 100 * kernel._margins(users, items, np.zeros(0, dtype=np.float32))).all()


def test_a_user_gets_the_same_bits_in_any_batch_and_with_any_threads():
    users, items = normal(300, 33), normal(1500, 33, seed=1)
    seen, whole = random_exclusions(300, 1500, 0.05, 0), None
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found = rank_topk(users, items, 40, exclude=seen)
            assert torch.get_num_threads() == n
            whole = whole or found
            assert_same(found, whole)
    finally:
        torch.set_num_threads(threads)
    for part in ([7], [299, 0], list(range(100, 217))):
        found = rank_topk(users[part], items, 40, exclude=seen.rows(part))
        assert_same(found, (whole.scores[part], whole.ids[part]))


def test_calls_from_several_threads_at_once():
    users, items = normal(100, 16), normal(900, 16, seed=1)
    expected = rank_topk(users, items, 9)
    with ThreadPoolExecutor(4) as pool:
        for call in [pool.submit(rank_topk, users, items, 9) for _ in range(12)]:
            assert_same(call.result(), expected)


def test_autocast_and_gradients_stay_outside():
    users, items = normal(4, 16).requires_grad_(), normal(500, 16, seed=1).requires_grad_()
    expected = rank_topk(users.detach(), items.detach(), 9)
    for backend in BACKENDS:
        with torch.autocast("cpu", torch.bfloat16):
            found = rank_topk(users, items, 9, backend=backend)
        assert not found.scores.requires_grad
        assert_same(found, expected)
        with torch.inference_mode():
            assert_same(rank_topk(users, items, 9, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend):
    users, items = normal(4, 10), normal(50, 10, seed=1)
    strided = [torch.stack([t, torch.full_like(t, math.nan)], dim=-1)[..., 0] for t in (users, items)]
    assert_same(rank_topk(*strided, 7, backend=backend), rank_topk(users, items, 7))
    assert_same(rank_topk(users.T.contiguous().T, items, 7, backend=backend), rank_topk(users, items, 7))


@pytest.mark.parametrize("backend", BACKENDS)
def test_mixed_dtypes_are_promoted(backend):
    users, items = normal(4, 10).double(), normal(50, 10, seed=1).half()
    assert_same(rank_topk(users, items, 7, backend=backend), by_hand(users, items, 7))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_last_then_padding(backend):
    users = torch.tensor([[1.0, 0.0]])
    items = torch.tensor([[1.0, 0], [math.nan, 0], [3, 0], [-INF, 1], [math.nan, 1], [2, 0], [INF, 1]])
    seen = Interactions.from_csr([0, 1], [2], 7)
    found = rank_topk(users, items, 7, exclude=seen, backend=backend)
    assert found.ids.tolist() == [[6, 5, 0, 3, 1, 4, -1]]
    assert found.scores[0, :4].tolist() == [INF, 2.0, 1.0, -INF]
    assert found.scores[0, 4:6].isnan().all()
    assert found.scores[0, 6] == -INF


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_of_minus_infinity_is_no_mask(backend):
    items = torch.tensor([[1.0], [2.0], [3.0]])
    bias = torch.tensor([0.0, -INF, -INF])
    seen = Interactions.from_csr([0, 1], [2], 3)
    found = rank_topk(torch.ones(1, 1), items, 3, exclude=seen, item_bias=bias, backend=backend)
    assert found.ids.tolist() == [[0, 1, -1]]
    assert found.scores.tolist() == [[1.0, -INF, -INF]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_signed_zeros_tie(backend):
    found = rank_topk(torch.ones(1, 1), torch.tensor([[-0.0], [0.0], [-0.0]]), 3, backend=backend)
    assert found.ids.tolist() == [[0, 1, 2]]
    assert not found.scores.signbit().any()


def test_sums_that_overflow_on_the_way_are_ranked_exactly():
    users = torch.tensor([[1e20, 1e20, 1e20], [1.0, 1.0, 1.0]])
    items = torch.tensor([[1e19, -1e19, 1.0], [1e19, -1e19, 2.0], [1e19, -1e19, 3.0], [-1e19, 0.0, 0.0]])
    for backend in BACKENDS:
        assert_same(rank_topk(users, items, 4, backend=backend), by_hand(users, items, 4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_shapes(backend):
    assert rank_topk(torch.empty(0, 3), normal(5, 3), 2, backend=backend).ids.shape == (0, 2)
    assert rank_topk(normal(4, 3), normal(5, 3), 0, backend=backend).scores.shape == (4, 0)
    assert rank_topk(normal(4, 3), torch.empty(0, 3), 0, backend=backend).ids.shape == (4, 0)
    flat = rank_topk(torch.empty(2, 0), torch.empty(5, 0), 5, backend=backend)
    assert flat.ids.tolist() == [[0, 1, 2, 3, 4]] * 2
    everything = Interactions.from_csr([0, 2], [0, 1], 2)
    assert rank_topk(normal(1, 3), normal(2, 3), 2, exclude=everything, backend=backend).ids.tolist() == [[-1, -1]]


def test_no_tile_grows_with_users_times_items(monkeypatch):
    sizes, plain = [], torch.mm

    def recorded(a, b, out):
        sizes.append(out.numel() * out.element_size())
        return plain(a, b, out=out)

    monkeypatch.setattr(torch, "mm", recorded)
    monkeypatch.setattr(kernel, "_TILE_BYTES", 1 << 16)
    rank_topk(normal(600, 4), normal(3000, 4, seed=1), 5, backend="numba")
    assert len(sizes) > 1
    assert max(sizes) <= 1 << 16 <= 600 * 3000 * 4 // 100


def test_block_errors_are_raised_and_threads_put_back():
    before, seen = torch.get_num_threads(), []

    def work(start):
        seen.append(torch.get_num_threads())
        if start == 3:
            raise ArithmeticError("block 3")

    torch.set_num_threads(2)
    try:
        with pytest.raises(ArithmeticError, match="block 3"):
            run_blocks(work, range(5))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


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
        ({"precision": "fast"}, "got 'fast'"),
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


def test_wrong_types_are_named():
    with pytest.raises(TypeError, match=r"k must be an integer, got 2\.0"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3), 2.0)
    with pytest.raises(TypeError, match=r"items must be .*int64"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3, dtype=torch.int64), 2)
    with pytest.raises(TypeError, match="exclude must be Interactions, got list"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3), 2, exclude=[])
    with pytest.raises(BackendError, match="triton"):
        rank_topk(torch.zeros(2, 3), torch.zeros(5, 3), 2, backend="triton")


def test_opcheck():
    seen = random_exclusions(3, 20, 0.3, 0)
    op = torch.ops.fastkd.rank_topk.default
    torch.library.opcheck(op, (normal(3, 4), normal(20, 4), 5, *seen.to_torch(), normal(20), "numba"))
    torch.library.opcheck(op, (normal(3, 4), normal(20, 4), 5, None, None, None, "numba"))
