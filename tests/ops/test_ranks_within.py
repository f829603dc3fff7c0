from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.ops import ranks_within
from fastkd.ops.ranks_within import _native
from tests.contracts.backends import device_of, poisoned

BACKENDS = ("reference", "numba", "triton")


def run(backend, a, b):
    return ranks_within(a.to(device_of(backend)), b.to(device_of(backend)), backend=backend).cpu()


def by_hand(a, b):
    rows = []
    for left, right in zip(a.tolist(), b.tolist(), strict=True):
        rows.append([0 if i < 0 else right.index(i) + 1 if i in right else len(right) + 1 for i in left])
    return torch.tensor(rows, dtype=torch.int64).view(a.shape)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_example(backend):
    a, b = torch.tensor([[7, 3, -1, 9, 3]]), torch.tensor([[3, -1, 9]])
    assert run(backend, a, b).tolist() == [[4, 1, 0, 3, 1]]
    assert run(backend, a.int(), b.int()).tolist() == [[4, 1, 0, 3, 1]]
    # Differences to a list's own places: positive where the other list ranks lower.
    assert (run(backend, b, b) - torch.arange(1, 4))[0].tolist() == [0, -2, 0]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**31), rows=st.integers(0, 9), m=st.integers(0, 150), m2=st.integers(0, 150),
    top=st.sampled_from([3, 50, 2**40]),
)  # fmt: skip
def test_every_backend_equals_the_definition(seed, rows, m, m2, top):
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(-1, top, (rows, n), generator=random) for n in (m, m2))
    if m2 and m and seed % 2:
        a = b[:, torch.randint(0, m2, (m,), generator=random)]
    for backend in BACKENDS:
        assert torch.equal(run(backend, a, b), by_hand(a, b))


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_lists_strides_and_repeats(backend):
    b = torch.randperm(5000, generator=torch.Generator().manual_seed(1))[None].repeat(2, 1)[:, ::2]
    b = torch.cat([b, b], dim=1)
    a = b.flip(1)[:, ::3]
    expected = by_hand(a, b)
    assert expected.max() <= 2500
    assert torch.equal(run(backend, a, b), expected)


def test_same_for_any_number_of_threads(monkeypatch):
    from fastkd.kernels.numba import _threads

    monkeypatch.setattr(_threads, "_GRAIN", 1)
    a, b = (torch.randint(0, 60, (301, 20), generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    expected, threads = by_hand(a, b), torch.get_num_threads()
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            assert torch.equal(ranks_within(a, b), expected)
    finally:
        torch.set_num_threads(threads)


def test_no_result_comes_from_uninitialised_memory(monkeypatch):
    from fastkd.kernels.triton import ranks_within as kernel

    a, b = (torch.randint(-1, 60, (5, 20), generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    monkeypatch.setattr(kernel, "new", poisoned(kernel.new))
    assert torch.equal(run("triton", a, b), by_hand(a, b))


def test_is_a_torch_op():
    a, b = torch.tensor([[7, 3, -1]]), torch.tensor([[3, -1, 9, 2]])
    for backend in ("numba", "triton"):
        torch.library.opcheck(_native, (a, b, backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiles_without_a_graph_break(backend):
    torch.compiler.reset()
    a, b = torch.tensor([[7, 3, -1]]), torch.tensor([[3, -1, 9, 2]])
    compiled = torch.compile(lambda x, y: run(backend, x, y), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(a, b), by_hand(a, b))


def test_bad_questions_are_named():
    with pytest.raises(ValueError, match=r"lists_a and lists_b must have the same number of rows, got \[2, 1\]"):
        ranks_within(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(TypeError, match="lists_b must be Int64"):
        ranks_within(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1))
