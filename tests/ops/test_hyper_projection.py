from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from fastkd.ops import hyper_projection
from tests.contracts.closeness import assert_earned


def parts(n: int, narrow: int = 3, wide: int = 4, context: int = 5, hidden: int = 6, *, dtype=torch.float64):
    random = torch.Generator().manual_seed(n)
    shapes = [(n, narrow), (n, context), (hidden, context), (hidden,), (wide * narrow, hidden), (wide * narrow,)]
    return [torch.randn(shape, generator=random, dtype=dtype) for shape in shapes]


def by_hand(x, v, w1, b1, w2, b2):
    x, v, w1, b1, w2, b2 = (t.detach().double().numpy() for t in (x, v, w1, b1, w2, b2))
    narrow, wide = x.shape[1], len(w2) // x.shape[1]
    out = np.zeros((len(x), wide))
    for n in range(len(x)):
        hidden = np.maximum(w1 @ v[n] + b1, 0.0)
        for t in range(wide):
            for s in range(narrow):
                out[n, t] += (w2[t * narrow + s] @ hidden + b2[t * narrow + s]) * x[n, s]
    return out


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("n", "narrow", "wide"), [(7, 3, 4), (1, 1, 1), (0, 2, 3), (5, 4, 1)])
def test_forward_is_the_formula(backend, n, narrow, wide):
    tensors = parts(n, narrow, wide)
    np.testing.assert_allclose(hyper_projection(*tensors, backend=backend), by_hand(*tensors), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cells", [1, 40, 1 << 20])
def test_gradients_in_stretches_of_rows(cells, monkeypatch):
    module = import_module("fastkd.ops.hyper_projection")
    monkeypatch.setattr(module, "_KEPT", 0)
    monkeypatch.setattr(module, "_CELLS", cells)
    tensors = [t.requires_grad_(True) for t in parts(9)]
    upstream = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, wanted = (
        torch.autograd.grad(hyper_projection(*tensors, backend=b), tensors, upstream) for b in ("auto", "reference")
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_gradients_against_differences(monkeypatch):
    monkeypatch.setattr(import_module("fastkd.ops.hyper_projection"), "_KEPT", 0)
    assert torch.autograd.gradcheck(hyper_projection, [t.requires_grad_(True) for t in parts(3, 2, 2, 2, 3)])


def test_float32_strays_no_further_than_the_reference(monkeypatch):
    monkeypatch.setattr(import_module("fastkd.ops.hyper_projection"), "_KEPT", 0)
    exact, found = parts(60, 8, 24, 24, 40), []
    for dtype, backend in ((torch.float32, "auto"), (torch.float32, "reference"), (torch.float64, "reference")):
        leaves = [t.to(dtype).requires_grad_() for t in exact]
        y = hyper_projection(*leaves, backend=backend)
        y.backward(torch.linspace(-1.5, 2.5, y.numel(), dtype=dtype).view(y.shape))
        found.append([y.detach(), *(t.grad for t in leaves)])
    for ours, plain, truth in zip(*found, strict=True):
        assert_earned(ours, plain, truth, hair=32.0)


@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_autocast_and_huge_inputs_stay_finite(kept, monkeypatch):
    monkeypatch.setattr(import_module("fastkd.ops.hyper_projection"), "_KEPT", kept)
    tensors = parts(6, dtype=torch.float32)
    x = (1e4 * tensors[0]).requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = hyper_projection(x, *tensors[1:])
    y.float().sum().backward()
    assert torch.isfinite(y).all()
    assert x.grad.dtype == torch.float32


def test_shapes_that_do_not_fit_are_named():
    x, *others = parts(4)
    with pytest.raises(ValueError, match=r"w2 \[T S, H\].*got \[\[4, 2\]"):
        hyper_projection(x[:, :2], others[0], *others[1:3], others[3][:11], others[4][:11])
    with pytest.raises(ValueError, match=r"got \[\[4, 3\], \[3, 5\]"):
        hyper_projection(x, others[0][:3], *others[1:])
