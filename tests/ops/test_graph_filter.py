from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.kernels.reference.graph_filter import spectrum
from fastkd.ops import graph_filter


def graph(n: int, seed: int):
    """A random symmetric graph, normalised, as a matrix and as CSR; some nodes stand alone."""
    random = np.random.default_rng(seed)
    dense = np.triu(random.random((n, n)) < 0.3, 1) * random.random((n, n))
    dense = dense + dense.T
    scale = 1.0 / np.sqrt(np.maximum(dense.sum(1), 1e-12))
    dense = np.where(dense > 0, dense * scale[:, None] * scale[None, :], 0.0)
    rows, columns = np.nonzero(dense)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    parts = (offsets, columns, dense[rows, columns])
    return dense, tuple(torch.from_numpy(np.ascontiguousarray(p)) for p in parts)


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 12), seed=st.integers(0, 99), strength=st.sampled_from([0.0, 0.5, 1.0]))
def test_light_filter_is_the_exact_spectral_one(n, seed, strength):
    dense, csr = graph(n, seed)
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 3)))
    wanted = (1 - strength) * x.numpy() + strength * dense @ x.numpy()
    for backend in ("auto", "reference"):
        found = graph_filter(x, *csr, strength=strength, backend=backend)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_it_is_low_pass_and_parseval_holds():
    _, csr = graph(15, 3)
    values, vectors = spectrum(*csr, torch.float64)
    assert values.min() > -1e-9
    assert values.max() < 2 + 1e-9
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(15, 4)))
    filtered = graph_filter(x, *csr, strength=0.5)
    response = 1 - 0.5 * values
    assert (response.diff() <= 1e-12).all()
    by_frequency = (response.square() * (vectors.T @ x).square().sum(1)).sum()
    assert filtered.square().sum().item() == pytest.approx(by_frequency.item(), rel=1e-12)


def test_listed_rows_and_their_gradient():
    dense, (offsets, neighbours, weights) = graph(9, 1)
    rows = torch.tensor([4, 0, 7])
    picked = [torch.arange(int(offsets[r]), int(offsets[r + 1])) for r in rows]
    own = torch.tensor([0, *np.cumsum([len(p) for p in picked])])
    edges = torch.cat(picked)
    x = torch.randn(9, 2, dtype=torch.float64, requires_grad=True)

    def run(x: torch.Tensor) -> torch.Tensor:
        return graph_filter(x, own, neighbours[edges], weights[edges], strength=0.3, rows=rows)

    wanted = graph_filter(x, offsets, neighbours, weights, strength=0.3)[rows]
    torch.testing.assert_close(run(x), wanted)
    matrix = torch.from_numpy(0.7 * np.eye(9) + 0.3 * dense)[rows]
    upstream = torch.randn(3, 2, dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad(run(x), x, upstream)[0], matrix.T @ upstream)
    assert torch.autograd.gradcheck(run, x)


def test_a_graph_without_edges_scales():
    x = torch.ones(3, 2)
    none = (torch.zeros(4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    assert torch.equal(graph_filter(x, *none, strength=0.25), 0.75 * x)


def test_shapes_that_do_not_fit_are_named():
    _, (offsets, neighbours, weights) = graph(5, 0)
    x = torch.ones(5, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"offsets \[6\].*\[5, 2\], \[5\]"):
        graph_filter(x, offsets[:-1], neighbours, weights, strength=0.5)
    with pytest.raises(ValueError, match="leave rows out"):
        graph_filter(x, offsets[:2], neighbours, weights, strength=0.5, rows=torch.tensor([0]), backend="reference")
