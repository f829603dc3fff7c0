from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.kernels.numba import _threads
from fastkd.ops import row_gradient
from fastkd.ops._dispatch import kernel
from fastkd.ops.row_gradient import sparse_gradient
from tests.contracts.backends import NATIVE, backends_of, device_of, poisoned
from tests.contracts.closeness import assert_earned, assert_near

BACKENDS = backends_of("row_gradient")
NATIVES = [b for b in BACKENDS if b in NATIVE]


def by_hand(vectors, ids, coefficients):
    sums: dict[int, np.ndarray] = {}
    for b in range(len(ids)):
        for c in range(ids.shape[1]):
            i = int(ids[b, c])
            if i >= 0:
                term = float(coefficients[b, c]) * vectors[b].double().numpy()
                sums[i] = sums.get(i, 0.0) + term
    rows = sorted(sums)
    values = np.array([sums[i] for i in rows]).reshape(len(rows), vectors.shape[1])
    return torch.tensor(rows, dtype=torch.int64), torch.from_numpy(values)


def run(backend, vectors, ids, coefficients):
    """Call on the backend's device; drop what a GPU keeps instead of counting (repeats, padding)."""
    device = device_of(backend)
    rows, values = row_gradient(vectors.to(device), ids.to(device), coefficients.to(device), backend=backend)
    rows, values = rows.cpu(), values.cpu()
    first = torch.ones(len(rows), dtype=torch.bool)
    first[1:] = rows[1:] != rows[:-1]
    assert not values[~first].any()
    kept = first & (rows >= 0)
    return rows[kept], values[kept]


def lists(rows, width, items, dim, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(-1, items, (rows, width), generator=g)
    return torch.randn(rows, dim, generator=g).to(dtype), ids, torch.randn(rows, width, generator=g).to(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "shape", [(5, 7, 11, 3), (40, 3, 2, 8), (1, 1, 1, 1), (9, 4, 5000, 17), (0, 4, 5, 2), (4, 0, 5, 2)]
)
def test_equals_the_sum_by_hand(backend, dtype, shape):
    arguments = lists(*shape, dtype=dtype)
    rows, values = run(backend, *arguments)
    expected_rows, expected = by_hand(*arguments)
    assert torch.equal(rows, expected_rows)
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    _, plain = run("reference", *arguments)
    assert_earned(values, plain, expected)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(0, 30),
    width=st.integers(0, 9),
    items=st.integers(1, 2**20),
    dim=st.integers(1, 9),
    wide=st.booleans(),
)
def test_backends_agree(rows, width, items, dim, wide):
    vectors, ids, coefficients = lists(rows, width, items, dim, seed=rows + width)
    if wide:
        ids = torch.where(ids >= 0, ids + 2**31 - 2**20, ids)
    expected_rows, expected = run("reference", vectors, ids, coefficients)
    found_rows, found = run("numba", vectors, ids, coefficients)
    assert torch.equal(found_rows, expected_rows)
    _, truth = run("reference", vectors.double(), ids, coefficients.double())
    assert_earned(found, expected, truth)


@pytest.mark.parametrize("native", NATIVES)
def test_int32_ids_and_strides_do_not_matter(native):
    vectors, ids, coefficients = lists(6, 5, 9, 4)
    expected = run(native, vectors, ids, coefficients)
    strided = [torch.stack([t, t], -1)[..., 0] for t in (vectors, ids.int(), coefficients)]
    for e, f in zip(expected, run(native, *strided), strict=True):
        assert torch.equal(e, f)


def test_same_bits_for_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    arguments, threads = lists(300, 20, 50, 16), torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            results.append(run("numba", *arguments))
    finally:
        torch.set_num_threads(threads)
    for rows, values in results[1:]:
        assert torch.equal(rows, results[0][0])
        assert torch.equal(values, results[0][1])


@pytest.mark.parametrize("native", NATIVES)
def test_no_result_comes_from_uninitialised_memory(monkeypatch, native):
    arguments = lists(7, 5, 9, 4)
    expected = run(native, *arguments)
    module = kernel("row_gradient", native)
    monkeypatch.setattr(module, "new", poisoned(module.new))
    for e, f in zip(expected, run(native, *arguments), strict=True):
        assert torch.equal(e, f)


def test_as_a_sparse_tensor_it_is_the_dense_gradient():
    vectors, ids, coefficients = lists(12, 5, 30, 4, dtype=torch.float64)
    sparse = sparse_gradient(*row_gradient(vectors, ids, coefficients), 30)
    assert sparse.is_coalesced()
    torch.sparse_coo_tensor(sparse.indices(), sparse.values(), sparse.shape, check_invariants=True)
    dense = torch.zeros(30, 4, dtype=torch.float64)
    for b in range(12):
        for c in range(5):
            if ids[b, c] >= 0:
                dense[ids[b, c]] += coefficients[b, c] * vectors[b]
    assert_near(sparse.to_dense(), dense, hair=8)


def test_opcheck():
    for dtype in (torch.float32, torch.float64):
        arguments = (*lists(6, 5, 9, 4, dtype=dtype), "numba")
        torch.library.opcheck(torch.ops.fastkd.row_gradient.default, arguments)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda v, i, c: (v[0], i, c), ValueError, r"vectors must be Float\[B D\]"),
        (lambda v, i, c: (v, i.float(), c), TypeError, "ids must be Int64"),
        (lambda v, i, c: (v, i, c[:, :1]), ValueError, "coefficients must be shaped like ids"),
        (lambda v, i, c: (v[:2], i, c), ValueError, "same number of rows"),
        (lambda v, i, c: (v, i, c.long()), TypeError, "coefficients must be Float"),
    ],
)
def test_arguments_that_do_not_fit_are_named(change, error, says):
    with pytest.raises(error, match=says):
        row_gradient(*change(*lists(6, 5, 9, 4)))
