from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch._dynamo.testing import CompileCounterWithBackend

from fastkd.core import BackendError
from fastkd.core.errors import ConfigError
from fastkd.core.philox import philox4x32
from fastkd.core.seeds import Seeds
from fastkd.kernels.numba import _threads
from fastkd.ops import dropout
from tests.contracts.backends import backends_of, device_of, interpreted, poison
from tests.contracts.op_contract import without_interpreter

BACKENDS = backends_of("dropout")
NATIVE = BACKENDS[1:]
DRAW = {"seed": 3, "step": 2}


def run(x, rate, backend, rows=None, **draw):
    device = device_of(backend)
    rows = None if rows is None else rows.to(device)
    return dropout(x.to(device), rate, rows=rows, backend=backend, **(draw or DRAW)).cpu()


def test_it_has_three_backends():
    assert BACKENDS == ("reference", "numba", "triton")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [1, 2, 4, 5, 11])
def test_the_stated_counters(backend, width):
    rows, rate = [7, 2**40 + 5, -3, 0], 0.3
    key, blocks = Seeds(9).key("dropout", 4), -(-width // 4)
    x = torch.linspace(1.0, 2.0, 4 * width).view(4, width)
    wanted = torch.zeros(4, width)
    for i, row in enumerate(rows):
        for j in range(width):
            low, high = row & 0xFFFFFFFF, (row >> 32) & 0xFFFFFFFF
            word = int(philox4x32((j % blocks, low, high, 0), key)[j // blocks])
            if word < round(0.7 * 2**32):
                wanted[i, j] = x[i, j] * np.float32(1 / 0.7)
    found = run(x, rate, backend, torch.tensor(rows), seed=9, step=4)
    assert (found == 0).sum() > 0 or width == 1
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("rate", "width"), [(0.2, 37), (0.5, 1), (0.97, 8)])
def test_shares_and_independence(backend, rate, width):
    n = 40_000 if backend != "triton" or device_of(backend) == "cuda" else 2_000
    kept = (run(torch.ones(n, width), rate, backend) > 0).numpy()
    # Each two-sided, p of 1e-7.
    assert stats.binomtest(int(kept.sum()), kept.size, 1 - rate).pvalue > 1e-7
    for offset in (1, -(-width // 4)):
        if offset < width:  # neighbours, and columns that share a block
            both = int((kept[:, offset:] & kept[:, :-offset]).sum())
            assert stats.binomtest(both, n * (width - offset), (1 - rate) ** 2).pvalue > 1e-7
    again = int((kept[1:] & kept[:-1]).sum())
    assert stats.binomtest(again, (n - 1) * width, (1 - rate) ** 2).pvalue > 1e-7


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9),
    width=st.integers(0, 70),
    rate=st.sampled_from([1e-12, 0.1, 0.5, 0.999999, 1 - 2**-53]),
    seed=st.integers(0, 2**63 - 1),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_backends_agree_to_the_bit(rows, width, rate, seed, dtype):
    x = torch.randn(len(rows), width, generator=torch.Generator().manual_seed(1)).to(dtype)
    ids = torch.tensor(rows, dtype=torch.int64)
    first, *others = (run(x, rate, b, ids, seed=seed, step=1) for b in BACKENDS)
    assert first.dtype == dtype
    assert first.shape == x.shape
    for other in others:
        assert torch.equal(first.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_draws_its_own(backend):
    x, rows = torch.ones(6, 30), torch.tensor([4, 1, 9, 4, 0, 2])
    found = run(x, 0.4, backend, rows)
    order = torch.tensor([3, 5, 0])
    assert torch.equal(run(x[order], 0.4, backend, rows[order]), found[order])
    assert torch.equal(found[0], found[3])
    assert torch.equal(run(x, 0.4, backend, rows.int()), found)
    assert torch.equal(run(x, 0.4, backend), run(x, 0.4, backend, torch.arange(6)))
    for other in ({"seed": 4, "step": 2}, {"seed": 3, "step": 3}):
        assert not torch.equal(run(x, 0.4, backend, rows, **other), found)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend):
    x = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    leaf = x.to(device_of(backend)).requires_grad_()
    quick = interpreted(backend)
    assert torch.autograd.gradcheck(lambda t: dropout(t, 0.3, **DRAW, backend=backend), leaf, fast_mode=quick)
    square = lambda t: dropout(t, 0.3, **DRAW, backend=backend).square()  # noqa: E731
    assert torch.autograd.gradgradcheck(square, leaf, fast_mode=quick)
    dropout(leaf, 0.3, **DRAW, backend=backend).sum().backward()
    kept = (run(torch.ones_like(x), 0.3, backend) > 0).double()
    torch.testing.assert_close(leaf.grad.cpu(), kept / 0.7)
    with torch.no_grad():
        assert not dropout(leaf, 0.3, **DRAW, backend=backend).requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_left_out_and_what_is_left_out_is_zero(backend):
    x = torch.full((50, 8), torch.nan)
    assert run(x, 0.0, backend).isnan().all()
    found = run(x, 0.5, backend)
    assert (found.isnan() | (found == 0)).all()
    assert (found == 0).any()
    assert run(torch.full((50, 8), torch.inf), 0.5, backend).isnan().sum() == 0
    assert run(torch.zeros(0, 8), 0.5, backend).shape == (0, 8)
    strided = torch.randn(9, 20)[:, ::2]
    assert torch.equal(run(strided, 0.5, backend), run(strided.contiguous(), 0.5, backend))


@pytest.mark.parametrize("backend", NATIVE)
def test_every_value_is_written(backend, monkeypatch):
    x = torch.randn(37, 13)
    expected = run(x, 0.5, backend)
    poison(monkeypatch, backend)
    assert torch.equal(run(x, 0.5, backend), expected)


@pytest.mark.parametrize("width", [1, 40])
def test_same_bits_for_any_number_of_threads(width, monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    x, threads = torch.randn(1003, width), torch.get_num_threads()
    found = []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found.append(dropout(x, 0.5, **DRAW))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_torch_sees_an_op():
    op, rows = torch.ops.fastkd.dropout.default, torch.arange(4)
    torch.library.opcheck(op, (torch.randn(4, 6).requires_grad_(), rows, 0.3, 1, 2, "numba"))
    for backend in ("numba", "reference"):
        torch.library.opcheck(op, (torch.randn(6, 4).T, rows, 0.3, 1, 2, backend))
    torch.compiler.reset()

    def square(x: torch.Tensor) -> torch.Tensor:
        return dropout(x, 0.3, **DRAW).square()

    x = torch.randn(4, 6)
    found, wanted = (x.clone().requires_grad_() for _ in range(2))
    compiled = torch.compile(square, fullgraph=True, backend="aot_eager")(found)
    assert torch.equal(compiled, square(wanted))
    compiled.sum().backward()
    square(wanted).sum().backward()
    assert torch.equal(found.grad, wanted.grad)


def test_a_compiled_step_is_compiled_for_any_step():
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x, step: dropout(x, 0.3, seed=5, step=step), backend=counter, fullgraph=True)
    x = torch.randn(4, 6)
    for step in range(2, 8):
        assert torch.equal(compiled(x, step), dropout(x, 0.3, seed=5, step=step))
    assert counter.frame_count <= 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rate": 1.0}, ValueError, r"rate must be a number in \[0, 1\), got 1\.0"),
        ({"rate": -0.1}, ValueError, r"rate must be a number in \[0, 1\), got -0\.1"),
        ({"rate": float("nan")}, ValueError, "got nan"),
        ({"x": torch.zeros(3)}, ValueError, r"x must be Float\[n D\], got shape \[3\]"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "x must be Float"),
        ({"rows": torch.zeros(2, dtype=torch.int64)}, ValueError, r"same number of rows, got \[3, 2\] and \[2\]"),
        ({"rows": torch.zeros(3)}, TypeError, r"rows must be Int64\[n\]"),
        ({"step": -1}, ValueError, "step"),
        ({"seed": 2**63}, ConfigError, "seed must be an integer in"),
        ({"seed": 1.5, "rate": 0}, ConfigError, "got 1.5"),
        ({"backend": "nunba"}, ValueError, "unknown backend 'nunba'"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    arguments = {"x": torch.zeros(3, 2), "rate": 0.5, "rows": None, **DRAW, "backend": "auto"} | change
    with pytest.raises(error, match=message):
        dropout(arguments.pop("x"), arguments.pop("rate"), **arguments)


@settings(deadline=None)
@given(rate=st.floats(0, 1, exclude_max=True))
def test_a_scale_reaches_the_gpu_whole(rate):
    # Numbers travel to a kernel as float32: three of them hold a double.
    parts = pytest.importorskip("fastkd.kernels.triton.dropout")._parts(1.0 / (1.0 - rate))
    high, middle, low = (float(np.float32(part)) for part in parts)
    assert (high + middle) + low == 1.0 / (1.0 - rate)
    assert np.float32(high) == np.float32(1.0 / (1.0 - rate))


def test_triton_is_refused_on_the_cpu(monkeypatch):
    with (
        without_interpreter(monkeypatch),
        pytest.raises(BackendError, match="dropout cannot run with backend='triton'"),
    ):
        dropout(torch.zeros(3, 2), 0.5, **DRAW, backend="triton")
