from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.core import BackendError, Interactions
from fastkd.kernels.numba import _threads
from fastkd.kernels.numba import rank_of as numba_kernel
from fastkd.ops import rank_of, rank_topk
from fastkd.ops.rank_of import _native
from tests.contracts.backends import device_of, poisoned
from tests.contracts.op_contract import without_interpreter

BACKENDS = ("reference", "numba", "triton")
NATIVE = ("numba", "triton")
INF = math.inf

# numpy, in Triton's interpreter, warns of the inf * 0 that these tests are about.
pytestmark = pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning", "ignore:overflow:RuntimeWarning"
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def given_ids(rows, columns, num_items, seed=3):
    return torch.randint(-1, num_items, (rows, columns), generator=torch.Generator().manual_seed(seed))


def random_exclusions(rows, num_items, share, seed):
    random = np.random.default_rng(seed)
    users, items = np.nonzero(random.random((rows, num_items)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


def run(backend, users, items, ids, *, bias=None, **options):
    device = device_of(backend)
    users, items, ids = (t.to(device) for t in (users, items, ids))
    return rank_of(
        users, items, ids, item_bias=None if bias is None else bias.to(device), backend=backend, **options
    ).cpu()


def by_hand(users, items, ids, seen=None, bias=None):
    """The definition, one Python float at a time."""
    ranks = []
    for b, u in enumerate(users.tolist()):
        keys = []
        for i, v in enumerate(items.tolist()):
            total = 0.0
            for x, y in zip(u, v, strict=True):
                total += x * y
            with np.errstate(over="ignore", invalid="ignore"):
                score = np.float32(total) + (np.float32(0) if bias is None else np.float32(bias[i]))
            keys.append((math.isnan(score), -score if score == score else 0.0, i))
        hidden = set() if seen is None else set(seen.row(b).tolist())
        allowed = [key for key in keys if key[2] not in hidden]
        ranks.append([0 if i < 0 else 1 + sum(key < keys[i] for key in allowed) for i in ids[b].tolist()])
    return torch.tensor(ranks, dtype=torch.int64).view(ids.shape)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("columns", [1, 3, 19])
def test_equals_the_definition(backend, dtype, columns):
    users, items, ids = normal(3, 7).to(dtype), normal(150, 7, seed=1).to(dtype), given_ids(3, columns, 150)
    assert torch.equal(run(backend, users, items, ids), by_hand(users, items, ids))
    seen, bias = random_exclusions(3, 150, 0.4, 0), normal(150, seed=2)
    bias[::5] = -INF
    found = run(backend, users, items, ids.int(), exclude=seen, bias=bias)
    assert found.dtype == torch.int64
    assert torch.equal(found, by_hand(users, items, ids, seen, bias))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("columns", [2, 18])
def test_what_is_not_finite_ranks_as_in_lists(backend, columns):
    users, items, bias = normal(4, 5), normal(140, 5, seed=1), normal(140, seed=2)
    items[3, 0], items[70, 2], items[71, 1] = math.nan, INF, -INF
    bias[9], bias[10], bias[11], users[1, 0], users[2] = math.nan, INF, -INF, math.nan, 1e30
    ids = torch.tensor([[3, 70, 9, 10, 11, 0, 139, -1, 71]]).repeat(4, 2)[:, -columns:]
    found = run(backend, users, items, ids, bias=bias)
    assert torch.equal(found, by_hand(users, items, ids, None, bias))


@pytest.mark.parametrize("backend", BACKENDS)
def test_inverts_rank_topk(backend):
    users, items = normal(5, 6).round(), normal(300, 6, seed=1).round()
    seen = random_exclusions(5, 300, 0.1, 4)
    lists = rank_topk(users, items, 40, exclude=seen).ids
    assert torch.equal(run(backend, users, items, lists, exclude=seen), torch.arange(1, 41).expand(5, 40))


@settings(deadline=None, max_examples=35)
@given(data=st.data())
def test_numba_agrees_with_the_reference(data):
    draw = data.draw
    rows, num_items, dim = draw(st.integers(0, 20)), draw(st.integers(1, 600)), draw(st.integers(1, 70))
    columns = draw(st.integers(0, 20) | st.integers(17, 300))
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
    share = draw(st.sampled_from([None, 0.02, 0.5, 1.0]))
    seen = None if share is None else random_exclusions(rows, num_items, share, 1)
    ids = torch.tensor(random.integers(-1, num_items, (rows, columns)))
    with pytest.MonkeyPatch.context() as patch:  # small tiles and tables, so that small data reach every branch
        patch.setattr(numba_kernel, "_TILE_BYTES", draw(st.sampled_from([1 << 12, 1 << 20])))
        patch.setattr(numba_kernel, "_MAX_CELLS", draw(st.sampled_from([4, 32, 1 << 14])))
        patch.setattr(numba_kernel, "_COLUMNS", draw(st.sampled_from([3, 50, 4096])))
        found = rank_of(users, items, ids, exclude=seen, item_bias=bias, backend="numba")
    assert torch.equal(found, rank_of(users, items, ids, exclude=seen, item_bias=bias, backend="reference"))


@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_triton_agrees_with_the_reference(data):
    draw = data.draw
    rows, num_items, dim = draw(st.integers(1, 6)), draw(st.integers(1, 300)), draw(st.integers(1, 20))
    columns = draw(st.sampled_from([1, 3, 8, 9, 20]))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    whole, scale = draw(st.booleans()), 10.0 ** draw(st.integers(-15, 15))
    tables = [random.integers(-2, 3, (n, dim)) if whole else random.normal(size=(n, dim)) * scale
              for n in (rows, num_items)]  # fmt: skip
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.float16] if whole else [torch.float32]))
    users, items = (torch.tensor(t, dtype=torch.float32).to(dtype) for t in tables)
    bias = torch.tensor(random.normal(size=num_items), dtype=torch.float32) if draw(st.booleans()) else None
    seen = random_exclusions(rows, num_items, 0.2, 1) if draw(st.booleans()) else None
    ids = torch.tensor(random.integers(-1, num_items, (rows, columns)))
    found = run("triton", users, items, ids, exclude=seen, bias=bias)
    assert torch.equal(found, run("reference", users, items, ids, exclude=seen, bias=bias))


@pytest.mark.parametrize("backend", NATIVE)
@pytest.mark.parametrize("columns", [4, 40])
def test_items_closer_than_low_precision_rounds_are_told_apart(backend, columns):
    users, base = normal(2, 16) * 30, normal(1, 16, seed=1)
    items = base + normal(260, 16, seed=2) * 1e-6
    ids = given_ids(2, columns, 260)
    expected = run("reference", users, items, ids)
    assert torch.equal(run(backend, users, items, ids), expected)
    plain = torch.argsort(torch.argsort(-(users @ items.T), dim=1, stable=True), dim=1) + 1
    naive = torch.where(ids < 0, 0, plain.gather(1, ids.clamp(min=0)))
    assert not torch.equal(naive, expected), "the case is too easy to show anything"


def test_noise_inside_the_margin_leaves_no_trace(monkeypatch):
    users, items, ids = normal(9, 32), normal(3000, 32, seed=1), given_ids(9, 30, 3000)
    expected, plain, noise = rank_of(users, items, ids), numba_kernel.multiply, torch.Generator().manual_seed(7)
    wide = numba_kernel.margins(users, items, np.zeros(0, dtype=np.float32))[0]

    def noisy(a, b, out):
        plain(a, b, out)
        out.add_((torch.rand(out.shape, generator=noise) * 2 - 1) * float(wide.min()) * 0.9)

    threads = torch.get_num_threads()
    monkeypatch.setattr(numba_kernel, "multiply", noisy)
    try:
        torch.set_num_threads(1)
        assert torch.equal(rank_of(users, items, ids), expected)
        assert torch.equal(rank_of(users, items, ids[:, :4]), expected[:, :4])
        monkeypatch.setattr(numba_kernel, "margins", lambda *a: (wide * 0, wide * 0, np.zeros(0, dtype=np.int64)))
        assert not torch.equal(rank_of(users, items, ids), expected), "noise that does no harm shows nothing"
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("columns", [2, 30])
def test_same_ranks_for_any_threads_and_batch(monkeypatch, columns):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    users, items, ids, threads = normal(70, 9), normal(900, 9, seed=1), given_ids(70, columns, 900), 0
    whole, threads = rank_of(users, items, ids), torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            assert torch.equal(rank_of(users, items, ids), whole)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.cat([rank_of(users[b : b + 9], items, ids[b : b + 9]) for b in range(0, 70, 9)]), whole)


def test_no_result_comes_from_uninitialised_memory(monkeypatch):
    from fastkd.kernels.triton import _rank_halves
    from fastkd.kernels.triton import rank_of as kernel

    users, items, seen = normal(3, 5), normal(270, 5, seed=1), random_exclusions(3, 270, 0.1, 0)
    ids = given_ids(3, 12, 270)
    expected = [run("triton", users, items, ids[:, :c], exclude=seen) for c in (2, 12)]
    monkeypatch.setattr(kernel, "new", poisoned(kernel.new))
    monkeypatch.setattr(_rank_halves, "new", poisoned(_rank_halves.new))
    for c, wanted in zip((2, 12), expected, strict=True):
        assert torch.equal(run("triton", users, items, ids[:, :c], exclude=seen), wanted)


@pytest.mark.parametrize("limit", ["_FLAG_BYTES", "SECOND_AXIS"])
def test_segments_of_the_catalogue_leave_no_trace(monkeypatch, limit):
    from fastkd.kernels.triton import rank_of as kernel

    users, items, ids = normal(3, 5), normal(520, 5, seed=1), given_ids(3, 10, 520)
    monkeypatch.setattr(kernel, limit, {"_FLAG_BYTES": 6, "SECOND_AXIS": 2}[limit])
    monkeypatch.setattr(kernel, "_PER_PROGRAM", 1)
    for c in (1, 10):
        assert torch.equal(run("triton", users, items, ids[:, :c]), run("reference", users, items, ids[:, :c]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_edges(backend):
    users, items = normal(2, 3), normal(5, 3, seed=1)
    assert run(backend, users, items, torch.empty(2, 0, dtype=torch.int64)).shape == (2, 0)
    assert run(backend, users[:0], items, torch.empty(0, 4, dtype=torch.int64)).shape == (0, 4)
    assert run(backend, users, items, torch.full((2, 2), -1)).eq(0).all()
    seen = Interactions.from_pairs([0] * 5, list(range(5)), num_users=2, num_items=5)
    assert run(backend, users, items, torch.zeros(2, 1, dtype=torch.int64), exclude=seen)[0, 0] == 1
    strided = torch.stack([users, torch.full_like(users, math.nan)], dim=-1)[..., 0]
    ids = torch.tensor([[4, 4, 0], [2, -1, 2]])
    assert torch.equal(run(backend, strided, items, ids), by_hand(users, items, ids))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_ids_are_named_or_get_rank_zero(backend):
    users, items, ids = normal(2, 3), normal(5, 3, seed=1), torch.tensor([[0, 5], [1, 2]])
    with pytest.raises(ValueError, match=r"ids holds 5, outside \[0, 5\) and not -1"):
        run(backend, users, items, ids)
    found = run(backend, users, items, ids, validate=False)
    assert found[0, 1] == 0
    assert torch.equal(found[1], by_hand(users, items, ids.clamp(max=4))[1])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"users": torch.zeros(2, 4)}, ValueError, r"same width D, got \[2, 4\] and \[5, 3\]"),
        ({"ids": torch.zeros(3, 1, dtype=torch.int64)}, ValueError, "same number of rows"),
        ({"ids": torch.zeros(2, 1)}, TypeError, "Int64"),
        ({"exclude": Interactions.empty(3, 5)}, ValueError, "exclude has 3 rows for 2 users"),
        ({"exclude": Interactions.empty(2, 6)}, ValueError, "exclude covers 6 items, the catalogue has 5"),
        ({"item_bias": torch.zeros(4)}, ValueError, "item_bias must have one value for each of 5 items, got 4"),
        ({"backend": "nunba"}, ValueError, "unknown backend 'nunba'"),
    ],
)
def test_bad_questions_are_named(change, error, says):
    given = {"users": normal(2, 3), "items": normal(5, 3), "ids": torch.zeros(2, 1, dtype=torch.int64), **change}
    with pytest.raises(error, match=says):
        rank_of(given.pop("users"), given.pop("items"), given.pop("ids"), **given)


def test_triton_without_a_gpu_is_refused(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("about machines without a GPU")
    with (
        without_interpreter(monkeypatch),
        pytest.raises(BackendError, match=r"rank_of cannot run with backend='triton'"),
    ):
        rank_of(normal(2, 3), normal(5, 3), torch.zeros(2, 1, dtype=torch.int64), backend="triton")


def test_is_a_torch_op():
    seen, ids = random_exclusions(4, 30, 0.2, 0), given_ids(4, 3, 30)
    indptr, indices = seen.to_torch()
    torch.library.opcheck(_native, (normal(4, 5), normal(30, 5), ids, indptr, indices, normal(30), True, "numba"))
    torch.library.opcheck(_native, (normal(4, 5), normal(30, 5), ids, None, None, None, False, "triton"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_without_a_graph_break(backend):
    torch.compiler.reset()
    device = device_of(backend)
    users, items, ids = normal(4, 5).to(device), normal(30, 5, seed=1).to(device), given_ids(4, 3, 30).to(device)
    compiled = torch.compile(lambda *a: rank_of(*a, backend=backend), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(users, items, ids), rank_of(users, items, ids, backend=backend))
