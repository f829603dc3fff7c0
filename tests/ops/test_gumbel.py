from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fastkd.core.philox import philox4x32
from fastkd.core.seeds import Seeds
from fastkd.kernels.numba import _threads
from fastkd.ops import gumbel
from tests.contracts.backends import backends_of, device_of, interpreted, poison

BACKENDS = backends_of("gumbel")
NATIVE = BACKENDS[1:]


def run(rows, columns, backend, seed=3, step=2):
    return gumbel(rows.to(device_of(backend)), columns, seed=seed, step=step, backend=backend).cpu()


def test_it_has_three_backends():
    assert BACKENDS == ("reference", "numba", "triton")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("columns", [1, 4, 5, 11, 67])
def test_the_stated_counters(backend, columns):
    rows, key, blocks = [7, 2**40 + 5, -3, 0], Seeds(9).key("gumbel", 4), -(-columns // 4)
    found = run(torch.tensor(rows), columns, backend, seed=9, step=4)
    assert found.dtype == torch.float32
    for i, row in enumerate(rows):
        for j in range(columns):
            low, high = row & 0xFFFFFFFF, (row >> 32) & 0xFFFFFFFF
            word = int(philox4x32((j % blocks, low, high, 0), key)[j // blocks])
            wanted = -math.log(-math.log((word + 0.5) / 2**32))
            assert float(found[i, j]) == pytest.approx(wanted, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_law(backend):
    n = 1_000 if interpreted(backend) else 20_000
    found = run(torch.arange(n), 10, backend).double().numpy()
    # Each p of 1e-7: all draws, and neighbouring columns, which share a block two apart, by the ranks of their order.
    assert stats.kstest(found.ravel(), stats.gumbel_r.cdf).pvalue > 1e-7
    for offset in (1, 3):
        larger = int((found[:, offset:] > found[:, :-offset]).sum())
        total = n * (10 - offset)
        assert abs(larger - total / 2) < 5.4 * (total / 2) ** 0.5
    scores = np.array([1.0, 0.0, -1.0, 2.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0])
    counts = np.bincount((found + scores).argmax(1), minlength=10)
    assert stats.chisquare(counts, n * np.exp(scores) / np.exp(scores).sum()).pvalue > 1e-7


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9),
    columns=st.integers(0, 70),
    seed=st.integers(0, 2**63 - 1),
)
def test_backends_agree_to_the_bit(rows, columns, seed):
    ids = torch.tensor(rows, dtype=torch.int64)
    first, *others = (run(ids, columns, backend, seed=seed) for backend in BACKENDS)
    assert first.shape == (len(rows), columns)
    assert first.isfinite().all()
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_draws_its_own(backend):
    rows = torch.tensor([4, 1, 9, 4, 0, 2])
    found = run(rows, 12, backend)
    order = torch.tensor([3, 5, 0])
    assert torch.equal(run(rows[order], 12, backend), found[order])
    assert torch.equal(found[0], found[3])
    assert torch.equal(run(rows.int(), 12, backend), found)
    assert not torch.equal(run(rows, 12, backend, seed=4), found)
    assert not torch.equal(run(rows, 12, backend, step=3), found)


@pytest.mark.parametrize("backend", NATIVE)
def test_every_draw_is_written(backend, monkeypatch):
    expected = run(torch.arange(37), 13, backend)
    poison(monkeypatch, backend)
    assert torch.equal(run(torch.arange(37), 13, backend), expected)


def test_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            found.append(run(torch.arange(1003), 30, "numba"))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_torch_sees_an_op():
    torch.library.opcheck(torch.ops.fastkd.gumbel.default, (torch.arange(4), 6, 1, 2, "numba"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rows": torch.zeros(2)}, TypeError, r"rows must be Int64\[n\]"),
        ({"rows": torch.zeros(2, 2, dtype=torch.int64)}, ValueError, r"got shape \[2, 2\]"),
        ({"columns": -1}, ValueError, "columns"),
        ({"step": -1}, ValueError, "step"),
        ({"backend": "nunba"}, ValueError, "unknown backend 'nunba'"),
    ],
)
def test_what_does_not_fit_is_named(change, error, message):
    arguments = {"rows": torch.arange(3), "columns": 2, "seed": 0, "step": 0, "backend": "auto"} | change
    with pytest.raises(error, match=message):
        gumbel(arguments.pop("rows"), arguments.pop("columns"), **arguments)
