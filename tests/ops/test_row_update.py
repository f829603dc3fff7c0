from __future__ import annotations

import math

import pytest
import torch

from fastkd.kernels.numba import _threads
from fastkd.ops import row_adagrad, row_adam, row_sgd
from tests.contracts.backends import backends_of, device_of

BACKENDS = backends_of("row_update")
ROWS, ITEMS, DIM = torch.tensor([0, 3, 4, 9]), 10, 5


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def tables(dtype, device):
    return [
        t.to(device, dtype) for t in (normal(ITEMS, DIM), normal(ITEMS, DIM, seed=1), normal(ITEMS, DIM, seed=2) ** 2)
    ]


def assert_only_rows_changed(before, after):
    others = [i for i in range(ITEMS) if i not in ROWS]
    assert torch.equal(before[others], after[others].to(before.device))
    assert not torch.equal(before[ROWS], after[ROWS].to(before.device))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_sgd_is_the_formula_on_listed_rows(backend, dtype, decay):
    device = device_of(backend)
    weight, _, _ = tables(dtype, device)
    g, before = normal(4, DIM, seed=5, dtype=dtype).to(device), weight.clone()
    row_sgd(weight, ROWS.to(device), g, lr=0.1, weight_decay=decay, backend=backend)
    assert_only_rows_changed(before.cpu(), weight.cpu())
    for r, i in enumerate(ROWS.tolist()):
        for d in range(DIM):
            w = before[i, d].item()
            terms = abs(w) + 0.1 * (abs(g[r, d].item()) + decay * abs(w))
            moved = w - 0.1 * (g[r, d].item() + decay * w)
            assert weight[i, d].item() == pytest.approx(moved, rel=0, abs=4 * torch.finfo(dtype).eps * terms)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rowwise", [False, True])
def test_adagrad_is_the_formula_on_listed_rows(backend, dtype, rowwise):
    device = device_of(backend)
    weight, _, total = tables(dtype, device)
    total, rounding = total.mean(1, keepdim=True) if rowwise else total, torch.finfo(dtype).eps
    g, before, old = normal(4, DIM, seed=5, dtype=dtype).to(device), weight.clone(), total.clone()
    row_adagrad(weight, ROWS.to(device), g, total, lr=0.1, eps=1e-3, weight_decay=0.2, backend=backend)
    assert_only_rows_changed(before.cpu(), weight.cpu())
    for r, i in enumerate(ROWS.tolist()):
        h = [g[r, d].item() + 0.2 * before[i, d].item() for d in range(DIM)]
        mean = sum(x * x for x in h) / DIM
        most = [abs(g[r, d].item()) + 0.2 * abs(before[i, d].item()) for d in range(DIM)]
        for d in range(DIM):
            s = old[i, 0 if rowwise else d].item() + (mean if rowwise else h[d] ** 2)
            terms = s + (max(most) if rowwise else most[d]) ** 2
            assert total[i, 0 if rowwise else d].item() == pytest.approx(s, rel=0, abs=8 * rounding * terms)
            moved = before[i, d].item() - 0.1 * h[d] / (math.sqrt(s) + 1e-3)
            terms = abs(before[i, d].item()) + 0.1 * most[d] / (math.sqrt(s) + 1e-3)
            assert weight[i, d].item() == pytest.approx(moved, rel=0, abs=16 * rounding * terms)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_is_the_formula_with_each_rows_own_steps(backend, dtype, decoupled):
    device = device_of(backend)
    weight, mean, square = tables(dtype, device)
    rounding = torch.finfo(dtype).eps
    step = torch.tensor([0, 5, 5, 1, 7, 5, 5, 5, 5, 1000], dtype=torch.int32, device=device)
    g = normal(4, DIM, seed=5, dtype=dtype).to(device)
    before, old_mean, old_square, old_step = weight.clone(), mean.clone(), square.clone(), step.clone()
    row_adam(
        weight, ROWS.to(device), g, (mean, square, step), lr=0.1, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.2,
        decoupled=decoupled, backend=backend,
    )  # fmt: skip
    assert_only_rows_changed(before.cpu(), weight.cpu())
    assert (step - old_step).tolist() == [int(i in ROWS) for i in range(ITEMS)]
    for r, i in enumerate(ROWS.tolist()):
        t = int(old_step[i]) + 1
        for d in range(DIM):
            w = before[i, d].item()
            h = g[r, d].item() + (0.0 if decoupled else 0.2 * w)
            m = 0.8 * old_mean[i, d].item() + 0.2 * h
            v = 0.95 * old_square[i, d].item() + 0.05 * h * h
            w *= 1 - 0.1 * 0.2 if decoupled else 1
            w -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-3)
            most = abs(g[r, d].item()) + 0.2 * abs(before[i, d].item())
            first, second = 0.8 * abs(old_mean[i, d].item()) + 0.2 * most, v + 0.05 * most**2
            terms = abs(before[i, d].item()) + 0.1 * (first / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.95**t)) + 1e-3)
            assert mean[i, d].item() == pytest.approx(m, rel=0, abs=4 * rounding * first)
            assert square[i, d].item() == pytest.approx(v, rel=0, abs=8 * rounding * second)
            assert weight[i, d].item() == pytest.approx(w, rel=0, abs=16 * rounding * terms)


def test_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    threads, results = torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            weight = normal(100, 7, dtype=torch.float32)
            state = (torch.zeros(100, 7), torch.zeros(100, 7), torch.zeros(100, dtype=torch.int32))
            for s in range(3):
                rows = torch.arange(s, 100, 2)
                row_adam(
                    weight, rows, normal(len(rows), 7, seed=s, dtype=torch.float32), state, lr=0.1, backend="numba"
                )
            results.append(weight)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(w, results[0]) for w in results)


def test_nothing_listed_changes_nothing():
    weight = normal(4, 3)
    before = weight.clone()
    row_sgd(weight, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64), lr=1.0)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_graph_that_lost_its_values_says_so(backend):
    weight = normal(5, 3).requires_grad_()
    state = [normal(5, 3).abs(), normal(5, 3).abs(), torch.zeros(5, dtype=torch.int32)]
    versions = [t._version for t in state]
    before = (weight**2).sum()
    with torch.no_grad():
        row_adam(weight, torch.tensor([0, 2]), normal(2, 3), tuple(state), lr=1.0, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        before.backward()
    assert all(t._version > version for t, version in zip(state, versions, strict=True))


def test_opcheck():
    weight, mean, square = tables(torch.float32, "cpu")
    g, step = normal(4, DIM, dtype=torch.float32), torch.zeros(ITEMS, dtype=torch.int32)
    ops = torch.ops.fastkd
    torch.library.opcheck(ops.row_sgd_.default, (weight, ROWS, g, 0.1, 0.0, "numba"))
    torch.library.opcheck(ops.row_adagrad_.default, (weight, ROWS, g, square, 0.1, 1e-8, 0.0, "numba"))
    adam = (weight, ROWS, g, mean, square, step, 0.1, 0.9, 0.99, 1e-8, 0.0, False, "numba")
    torch.library.opcheck(ops.row_adam_.default, adam)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"weight": normal(10, 5).bfloat16()}, TypeError, "contiguous float32 or float64, got torch.bfloat16"),
        ({"weight": normal(5, 10).t()}, TypeError, "strides"),
        ({"rows": torch.tensor([0, 3, 4, 10])}, ValueError, r"in \[0, 10\), got values from 0 to 10"),
        ({"rows": torch.tensor([-1, 3, 4, 9])}, ValueError, "got values from -1 to 9"),
        ({"rows": torch.tensor([0, 4, 3, 9])}, ValueError, "ascending, distinct"),
        ({"rows": torch.tensor([0, 3, 3, 9])}, ValueError, "ascending, distinct"),
        ({"rows": torch.tensor([0, 3, 4])}, ValueError, r"got torch.int64 \[3\] and \[4, 5\]"),
        (
            {"total": torch.zeros(9, 5, dtype=torch.float64)},
            ValueError,
            "total must be contiguous torch.float64 with 10",
        ),
        ({"total": torch.zeros(10, 5)}, ValueError, "got torch.float32"),
        ({"total": torch.zeros(10, 2, dtype=torch.float64)}, ValueError, "5 or 1 wide"),
        ({"lr": -1.0}, ValueError, "lr must be a finite number of at least 0, got -1.0"),
        ({"lr": math.nan}, ValueError, "lr must be a finite number"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, error, says):
    given = {"weight": normal(10, 5), "rows": ROWS, "gradient": normal(4, 5), "total": normal(10, 5) ** 2, "lr": 0.1}
    given |= change
    with pytest.raises(error, match=says):
        row_adagrad(given["weight"], given["rows"], given["gradient"], given["total"], lr=given["lr"])


def test_adam_names_what_its_state_lacks():
    weight, mean, square = tables(torch.float64, "cpu")
    step, g = torch.zeros(ITEMS, dtype=torch.int32), normal(4, DIM)
    with pytest.raises(ValueError, match=r"t must be Int32\[10\], got torch.int64"):
        row_adam(weight, ROWS, g, (mean, square, step.long()), lr=0.1)
    with pytest.raises(ValueError, match=r"m must be 5 wide"):
        row_adam(weight, ROWS, g, (mean[:, :1].contiguous(), square, step), lr=0.1)
    with pytest.raises(ValueError, match=r"betas must be in \[0, 1\)"):
        row_adam(weight, ROWS, g, (mean, square, step), lr=0.1, betas=(0.9, 1.0))


def test_a_compiled_step_refuses_rows_out_of_range():
    weight, gradient = torch.zeros(20, 4), torch.ones(2, 4)
    torch.compiler.reset()
    step = torch.compile(lambda rows: row_sgd(weight, rows, gradient, lr=0.1), backend="aot_eager")
    step(torch.tensor([3, 5]))
    with pytest.raises(ValueError, match=r"rows must be ascending, distinct and in \[0, 20\)"):
        step(torch.tensor([3, 10**7]))
    assert weight.sum().item() == pytest.approx(-0.8)
