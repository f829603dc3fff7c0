from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core import DataError, Interactions
from fastkd.kernels._discrepancy import weight_table
from fastkd.kernels.numba import _threads
from fastkd.kernels.numba import sample_rank_discrepancy as numba_kernel
from fastkd.kernels.reference.sample_rank_discrepancy import weights
from fastkd.ops import sample_rank_discrepancy

BACKENDS = ("reference", "numba")
DIRECTIONS = ("teacher_to_student", "student_to_teacher")


def tables(users, items, dim, seed):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(users, dim, generator=random), torch.randn(items, dim, generator=random)


def exclusions(rows, num_items, share, seed=0):
    """Random seen items; the last one is seen by nobody."""
    users, items = np.nonzero(np.random.default_rng(seed).random((rows, num_items - 1)) < share)
    return Interactions.from_pairs(users, items, num_users=rows, num_items=num_items)


def ranks(scores, allowed):
    """1 for the best allowed item."""
    order = sorted(allowed, key=lambda i: (-scores[i], i))
    return np.array([order.index(i) + 1 for i in allowed])


def published(r_t, r_s, direction, epsilon, sign=1):
    """The formulas as printed, on ranks."""
    if sign == -1:
        r_t, r_s = -r_t, -r_s
    if direction == "teacher_to_student":
        return np.tanh(np.maximum((r_s - r_t) * epsilon, 0))
    return np.exp((r_t - r_s) * epsilon)


def test_golden_weights():
    r_t, r_s = torch.tensor([1, 5, 3]), torch.tensor([4, 2, 3])
    table, bits = weight_table("teacher_to_student", 0.01, 6, "cpu")
    tanh = weights(r_s - r_t, table, None) / 2.0**bits * math.tanh(5 * 0.01)
    np.testing.assert_allclose(tanh, [0.0299910032, 0, 0], atol=5e-11)
    table, bits = weight_table("student_to_teacher", 1e-4, 6, "cpu")
    exp = weights(r_s - r_t, table, -3) / 2.0**bits
    golden = np.array([0.9997000450, 1.0003000450, 1.0])
    np.testing.assert_allclose(exp, golden / golden.max(), atol=2e-10)
    assert exp.max() == 1.0


@pytest.mark.parametrize("num_items", [1, 2, 1000, 1 << 20])
def test_sums_of_weights_fit(num_items):
    for direction in DIRECTIONS:
        table, bits = weight_table(direction, 1e-7, num_items, "cpu")
        assert table.max() <= 2**bits
        assert num_items * 2**bits <= 2**62


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("epsilon", [0.1, 0.15])  # the exponential form by rejection, and by inversion
def test_frequencies_are_the_formula(direction, sign, epsilon):
    num_items, draws, backend = 25, 30_000, "numba"
    teacher, student = tables(2, num_items, 5, 0), tables(2, num_items, 3, 1)
    seen = exclusions(2, num_items, 0.3)
    found = sample_rank_discrepancy(
        teacher, student, draws, users=torch.arange(2), direction=direction, epsilon=epsilon, exclude=seen,
        seed=0, epoch=0, rank_sign=sign, backend=backend,
    ).view(2, draws)  # fmt: skip
    for u in range(2):
        allowed = [i for i in range(num_items) if i not in seen.row(u)]
        scores = [(a.double() @ b.double()[u]).tolist() for b, a in (teacher, student)]
        w = published(ranks(scores[0], allowed), ranks(scores[1], allowed), direction, epsilon, sign)
        counts = np.bincount(found[u].numpy(), minlength=num_items)[allowed]
        assert counts.sum() == draws, "a seen item was drawn"
        assert not counts[w == 0].any()
        expected = draws * w[w > 0] / w.sum()
        assert expected.min() > 5
        assert stats.chisquare(counts[w > 0], expected).pvalue > 1e-6


def one_user(count):
    """The same two vectors for many users: their draws are independent samples of one distribution."""
    teacher, student = tables(1, 12, 4, 0), tables(1, 12, 4, 1)
    return [(u.expand(count, -1), v) for u, v in (teacher, student)]


def published_weights(direction, epsilon):
    scores = [(v.double() @ u[0].double()).tolist() for u, v in one_user(1)]
    return published(*(ranks(s, range(12)) for s in scores), direction, epsilon)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("epsilon", [0.2, 0.5])
def test_pairs_without_replacement_are_successive_draws(direction, epsilon):
    count, w = 20_000, published_weights(direction, epsilon)
    found = sample_rank_discrepancy(
        *one_user(count), 2, direction=direction, epsilon=epsilon, exclude=Interactions.empty(count, 12), seed=0,
        epoch=0, replacement=False,
    ).numpy()  # fmt: skip
    p = w / w.sum()
    rest = np.where(np.eye(12, dtype=bool), 0, w) / np.maximum(w.sum() - w, 1e-300)[:, None]
    expected = (p[:, None] * rest).ravel() * count
    counts = np.bincount(found[:, 0] * 12 + found[:, 1], minlength=144)
    assert not counts[expected < 1e-9].any()
    often = expected > 5
    counts, expected = (
        np.append(counts[often], counts[~often].sum()),
        np.append(expected[often], expected[~often].sum()),
    )
    kept = expected > 0
    assert stats.chisquare(counts[kept], expected[kept]).pvalue > 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_replacement_goes_on_when_weights_run_out(backend):
    # A teacher turned round: every item but the middle ones has a gap, half of them a positive one.
    seen = Interactions.from_csr([0, 1], [3], 12)
    teacher, student = tables(1, 12, 4, 0), tables(1, 12, 4, 0)
    found = sample_rank_discrepancy(
        teacher, (-student[0], student[1]), 11, direction="teacher_to_student", epsilon=0.5, exclude=seen, seed=0,
        epoch=0, replacement=False, backend=backend,
    )  # fmt: skip
    assert sorted(found[0].tolist()) == [i for i in range(12) if i != 3]
    r = ranks((teacher[1] @ teacher[0][0]).tolist(), [i for i in range(12) if i != 3])
    better = {i for i, rank in zip([i for i in range(12) if i != 3], r, strict=True) if rank <= 5}
    assert set(found[0, :5].tolist()) == better
    with pytest.raises(DataError, match=r"user 0 has 11 item.s. left but 12 draws without replacement"):
        sample_rank_discrepancy(
            teacher, student, 12, direction="teacher_to_student", epsilon=0.5, exclude=seen, seed=0, epoch=0,
            replacement=False, backend=backend,
        )  # fmt: skip


@pytest.mark.parametrize("backend", ["numba"])
def test_uniform_where_every_weight_is_zero(backend):
    model, seen = tables(1, 12, 4, 0), Interactions.from_csr([0, 2], [3, 7], 12)
    found = sample_rank_discrepancy(
        model, model, 20_000, users=torch.tensor([0]), direction="teacher_to_student", epsilon=0.1, exclude=seen,
        seed=0, epoch=0, backend=backend,
    ).view(-1)  # fmt: skip
    counts = np.bincount(found.numpy(), minlength=12)
    assert counts[[3, 7]].sum() == 0
    assert stats.chisquare(np.delete(counts, [3, 7])).pvalue > 1e-6


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_backends_agree(data):
    draw = data.draw
    rows, num_items = draw(st.integers(1, 12)), draw(st.integers(1, 600))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    dims, whole = (draw(st.integers(1, 40)), draw(st.integers(1, 9))), draw(st.booleans())

    def table(count, dim):
        values = random.integers(-2, 3, (count, dim)) if whole else random.normal(size=(count, dim))
        return torch.tensor(values, dtype=torch.float32)

    teacher, student = ((table(rows, d), table(num_items, d)) for d in dims)
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    teacher = tuple(t.to(dtype) for t in teacher)
    users = torch.tensor(random.integers(0, rows, draw(st.integers(0, 20))))
    counts = torch.tensor(random.integers(0, 9, len(users)))
    options = {
        "users": users,
        "direction": draw(st.sampled_from(DIRECTIONS)),
        "epsilon": 10.0 ** draw(st.integers(-5, 3)),
        "exclude": exclusions(rows, num_items, draw(st.sampled_from([0.0, 0.3, 0.95]))),
        "seed": 1,
        "epoch": draw(st.integers(0, 3)),
        "rank_sign": draw(st.sampled_from([1, -1])),
        "replacement": draw(st.booleans()),
    }
    if not options["replacement"]:
        counts = counts.minimum(num_items - torch.from_numpy(options["exclude"].degrees())[users])
    a = sample_rank_discrepancy(teacher, student, counts, backend="reference", **options)
    before = numba_kernel._POOL_SHARE
    try:
        for share in (before, 1e-9, 1e9):  # as measured, pools for all, pools for nobody
            numba_kernel._POOL_SHARE = share
            assert torch.equal(sample_rank_discrepancy(teacher, student, counts, backend="numba", **options), a)
    finally:
        numba_kernel._POOL_SHARE = before
    assert len(a) == counts.sum()
    assert not options["exclude"].contains(torch.repeat_interleave(users, counts).numpy(), a.numpy()).any()


def call(users, draws, **change):
    options = {"direction": "student_to_teacher", "epsilon": 0.05, "seed": 5, "epoch": 1, **change}
    seen = options.pop("exclude", exclusions(30, 400, 0.1))
    teacher, student = tables(30, 400, 6, 0), tables(30, 400, 4, 1)
    return sample_rank_discrepancy(teacher, student, draws, users=users, exclude=seen, **options)


def test_draws_align_with_the_interactions():
    seen = exclusions(30, 400, 0.1)
    found = call(torch.arange(30), torch.from_numpy(seen.degrees() * 2)).view(seen.nnz, 2)
    assert not seen.contains(np.repeat(seen.entry_users(), 2), found.numpy().ravel()).any()
    u = 17
    mine = call(torch.tensor([u]), int(seen.degrees()[u]) * 2)[0]
    assert torch.equal(found[seen.indptr[u] : seen.indptr[u + 1]].ravel(), mine)


def test_a_draw_depends_on_user_slot_seed_and_epoch_alone(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    whole, threads = call(torch.arange(30), 6).view(30, 6), torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            assert torch.equal(call(torch.arange(30), 6).view(30, 6), whole)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(call(torch.tensor([29, 3, 3]), 4).view(3, 4), whole[[29, 3, 3], :4])
    for other in ({"seed": 6}, {"epoch": 2}, {"direction": "teacher_to_student"}, {"rank_sign": -1}):
        assert not torch.equal(call(torch.arange(30), 6, **other).view(30, 6), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_steep_weights_do_not_overflow(backend):
    # exp(399 * 50) overflows; relative to the largest weight only items of the smallest gap are left.
    found = call(torch.arange(30), 5, epsilon=50.0, backend=backend).view(30, 5)
    seen, models = exclusions(30, 400, 0.1), [tables(30, 400, 6, 0), tables(30, 400, 4, 1)]
    for u in range(30):
        allowed = np.setdiff1d(np.arange(400), seen.row(u))
        r_t, r_s = (ranks((items @ users[u]).tolist(), allowed.tolist()) for users, items in models)
        best = allowed[(r_s - r_t) == (r_s - r_t).min()]
        assert np.isin(found[u].numpy(), best).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_users_without_draws_may_have_seen_everything(backend):
    seen = Interactions.from_csr([0, 2, 3], [0, 1, 1], 2)
    teacher, student = tables(2, 2, 3, 0), tables(2, 2, 3, 1)
    options = {"direction": "teacher_to_student", "epsilon": 1.0, "exclude": seen, "seed": 0, "epoch": 0}
    counts = torch.tensor([0, 3])
    found = sample_rank_discrepancy(teacher, student, counts, users=torch.arange(2), backend=backend, **options)
    assert found.tolist() == [0, 0, 0]
    none = sample_rank_discrepancy(teacher, student, 4, users=torch.arange(0), backend=backend, **options)
    assert none.shape == (0, 4)
    with pytest.raises(DataError, match="user 0 has seen all 2 items"):
        sample_rank_discrepancy(teacher, student, 1, users=torch.tensor([1, 0]), backend=backend, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "both"}, "direction must be one of teacher_to_student, student_to_teacher, got 'both'"),
        ({"epsilon": 0.0}, "epsilon must be a finite number above 0, got 0.0"),
        ({"epsilon": math.inf}, "got inf"),
        ({"rank_sign": 0}, "rank_sign must be 1 .* got 0"),
        ({"epoch": -1}, "epoch must be a whole number of at least 0, got -1"),
        ({"exclude": Interactions.empty(30, 399)}, "teacher has 30 users and 400 items, exclude is .*399 items"),
        ({"users": torch.tensor([0, 30])}, r"users holds 30, outside \[0, 30\)"),
        ({"draws": torch.tensor([1])}, "n_per_user has 1 rows for 2 users"),
        ({"draws": -2}, "n_per_user holds -2"),
        ({"backend": "nunba"}, "unknown backend 'nunba'"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"users": torch.arange(2), "draws": 1, **change}
    with pytest.raises(ValueError, match=message):
        call(arguments.pop("users"), arguments.pop("draws"), **arguments)
