from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core import DataError, Interactions
from fastkd.kernels.numba import _threads
from fastkd.kernels.reference.sample_rank_discrepancy import weights
from fastkd.ops import sample_rank_discrepancy
from fastkd.ops.sample_rank_discrepancy import weight_table

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
    r_t, r_s = np.array([1, 5, 3]), np.array([4, 2, 3])
    tanh = weights(r_s - r_t, *weight_table("teacher_to_student", 0.01, 6))
    np.testing.assert_allclose(tanh, [0.0299910032, 0, 0], atol=5e-11)
    exp = weights(r_s - r_t, *weight_table("student_to_teacher", 1e-4, 6))
    golden = np.array([0.9997000450, 1.0003000450, 1.0])
    np.testing.assert_allclose(exp, golden / golden.max(), atol=2e-10)
    assert exp.max() == 1.0


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_frequencies_are_the_formula(backend, direction, sign):
    num_items, draws, epsilon = 25, 30_000, 0.15
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


@pytest.mark.parametrize("backend", BACKENDS)
def test_uniform_where_every_weight_is_zero(backend):
    model, seen = tables(1, 12, 4, 0), Interactions.from_csr([0, 2], [3, 7], 12)
    found = sample_rank_discrepancy(
        model, model, 20_000, users=torch.tensor([0]), direction="teacher_to_student", epsilon=0.1, exclude=seen,
        seed=0, epoch=0, backend=backend,
    )  # fmt: skip
    counts = np.bincount(found.numpy(), minlength=12)
    assert counts[[3, 7]].sum() == 0
    assert stats.chisquare(np.delete(counts, [3, 7])).pvalue > 1e-6


@settings(deadline=None, max_examples=30)
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
    }
    a, b = (sample_rank_discrepancy(teacher, student, counts, backend=backend, **options) for backend in BACKENDS)
    assert torch.equal(a, b)
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
    mine = call(torch.tensor([u]), int(seen.degrees()[u]) * 2)
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
    assert sample_rank_discrepancy(teacher, student, 4, users=torch.arange(0), backend=backend, **options).shape == (0,)
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
