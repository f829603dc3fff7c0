from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.kernels.numba import _product
from fastkd.ops import linear
from tests.contracts.closeness import assert_earned

module = import_module("fastkd.ops.linear")
wide = pytest.mark.skipif(not _product.multiplies(torch.float32), reason="needs 512-bit registers")


@pytest.fixture(autouse=True)
def always_ours(monkeypatch):
    monkeypatch.setattr(module, "_SMALL", 0)


def parts(n, narrow, out, dtype=torch.float32, scale=1.0):
    random = torch.Generator().manual_seed(n + narrow)
    return [torch.randn(s, generator=random, dtype=torch.float64).mul(scale).to(dtype) for s in shapes(n, narrow, out)]


def shapes(n, narrow, out):
    return (n, narrow), (out, narrow), (out,)


def run(tensors, backend="auto"):
    leaves = [t.detach().clone().requires_grad_() for t in tensors]
    y = linear(*leaves, backend=backend)
    upstream = torch.linspace(-1.5, 2.5, y.numel(), dtype=torch.float64).view(y.shape).to(y.dtype)
    y.backward(upstream)
    return [y.detach(), *(t.grad for t in leaves)]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(0, 60), narrow=st.integers(1, 70), out=st.integers(1, 70), bias=st.booleans())
def test_value_and_gradients_against_loops(n, narrow, out, bias):
    x, weight, b = parts(n, narrow, out)
    tensors = [x, weight, b] if bias else [x, weight]
    rows, maps, plus = (t.double().numpy() for t in (x, weight, b))
    wanted = np.array([[w @ row + p * bias for w, p in zip(maps, plus, strict=True)] for row in rows]).reshape(n, out)
    found, *gradients = run(tensors)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-4)
    up = np.linspace(-1.5, 2.5, n * out).reshape(n, out)
    for gradient, truth in zip(gradients, (up @ maps, up.T @ rows, up.sum(0)), strict=False):
        np.testing.assert_allclose(gradient.numpy(), truth, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_ours_strays_no_further_than_torch(scale):
    exact = parts(300, 130, 70, torch.float64, scale)
    single = [t.float() for t in exact]
    for found, plain, truth in zip(run(single), run(single, "reference"), run(exact, "reference"), strict=True):
        assert_earned(found, plain, truth)


@wide
def test_large_products_are_ours_and_others_torchs(monkeypatch):
    calls = []
    ours = import_module("fastkd.kernels.numba._matmul").rows_by_columns
    monkeypatch.setattr(
        "fastkd.kernels.numba._matmul.rows_by_columns", lambda *a, **k: (calls.append(1), ours(*a, **k))
    )
    linear(*parts(9, 8, 7))
    assert len(calls) == 1
    linear(*parts(9, 8, 7), backend="reference")
    linear(*parts(9, 8, 7, torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*parts(9, 8, 7)).dtype == torch.bfloat16
    monkeypatch.setattr(module, "_SMALL", 9 * 8 * 7 + 1)
    linear(*parts(9, 8, 7))
    assert len(calls) == 1


@wide
def test_one_row_leaves_the_bias_alone():
    x, weight, bias = parts(1, 40, 30)
    before = bias.clone()
    linear(x, weight, bias)
    assert torch.equal(bias, before)


def test_second_derivatives():
    exact = [t.requires_grad_() for t in parts(2, 3, 2, torch.float64)]
    assert torch.autograd.gradgradcheck(linear, exact)

    def second(backend):
        tensors = [t.requires_grad_() for t in parts(40, 30, 20)]
        value = linear(*tensors, backend=backend).square().sum()
        (gradient,) = torch.autograd.grad(value, tensors[0], create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), tensors)

    for found, wanted in zip(second("auto"), second("reference"), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-2)


def test_gradient_only_where_wanted():
    for wanted in range(3):
        leaves = [t.requires_grad_(i == wanted) for i, t in enumerate(parts(6, 5, 4))]
        linear(*leaves).sum().backward()
        assert [t.grad is not None for t in leaves] == [i == wanted for i in range(3)]
        assert torch.equal(leaves[wanted].grad, run_sum(wanted))


def run_sum(which):
    leaves = [t.requires_grad_() for t in parts(6, 5, 4)]
    linear(*leaves).sum().backward()
    return leaves[which].grad


def test_same_bits_for_any_number_of_threads():
    tensors, threads = parts(203, 64, 40), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            results.append(run(tensors))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        # The bias's gradient is torch's sum.
        assert all(torch.equal(a, b) for a, b in zip(results[0][:3], other[:3], strict=True))


def test_it_compiles():
    torch.compiler.reset()
    tensors = parts(5, 4, 3)
    compiled = torch.compile(lambda *t: linear(*t).relu(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*tensors), linear(*tensors).relu())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: torch.zeros(3)}, ValueError, r"x must be Float\[n S\], got shape \[3\]"),
        ({1: torch.zeros(4, 6)}, ValueError, r"got \[\[2, 5\], \[4, 6\], \[4\]\]"),
        ({2: torch.zeros(3)}, ValueError, r"bias \[T\] or None; got"),
        ({0: torch.zeros(2, 5, dtype=torch.int64)}, TypeError, "x must be Float"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    tensors = dict(enumerate([torch.zeros(2, 5), torch.zeros(4, 5), torch.zeros(4)])) | change
    with pytest.raises(error, match=message):
        linear(*tensors.values())


def test_unknown_backends_are_refused():
    with pytest.raises(ValueError, match="unknown backend 'nunba'"):
        linear(torch.zeros(2, 5), torch.zeros(4, 5), backend="nunba")
