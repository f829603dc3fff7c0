from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from fastkd.core.errors import BackendError
from fastkd.ops import _mixture_tiles
from fastkd.ops.expert_mixture import _by_blocks, expert_choice, expert_mixture
from tests.contracts.closeness import assert_earned


def wave(*shape: int, f: float, p: float = 0.0) -> torch.Tensor:
    """S(a, b; f, p)_ij = sin(f (1 + i) (2 + j) + p)."""
    i, j = np.indices((int(np.prod(shape[:-1])), shape[-1]))
    return torch.from_numpy(np.sin(f * (1 + i) * (2 + j) + p)).reshape(shape)


def parts(rows: int, experts: int, narrow: int, hidden: int, wide: int, *, dtype=torch.float64, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    shapes = [(rows, narrow), (experts, hidden, narrow), (experts, hidden), (experts, hidden, wide), (experts, wide)]
    return [torch.randn(shape, generator=random, dtype=dtype) for shape in shapes]


def by_hand(x, w1, b1, w2, b2, gates):
    """One row, one expert, one unit at a time."""
    x, w1, b1, w2, b2, gates = (t.detach().double().numpy() for t in (x, w1, b1, w2, b2, gates))
    out = np.zeros((len(x), w2.shape[2]))
    for i in range(len(x)):
        for e in range(len(w1)):
            hidden = np.maximum(w1[e] @ x[i] + b1[e], 0.0)
            out[i] += gates[i, e] * (w2[e].T @ hidden + b2[e])
    return out


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("rows", "experts"), [(5, 3), (1, 1), (0, 2), (17, 30)])
def test_forward_is_the_formula(backend, rows, experts):
    weights = parts(rows, experts, 3, 4, 5)
    gates = torch.softmax(wave(rows, experts, f=0.7), dim=1)
    found = expert_mixture(*weights, gates=gates, backend=backend)
    np.testing.assert_allclose(found.numpy(), by_hand(*weights, gates), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["w1", "b1", "w2", "b2"])
def test_unlike_dtypes_are_refused(name):
    weights = dict(zip(("x", "w1", "b1", "w2", "b2"), parts(30, 3, 8, 16, 16, dtype=torch.float32), strict=True))
    weights[name] = weights[name].double()
    gates = torch.softmax(wave(30, 3, f=0.7), dim=1).float()
    for negligible in (0.0, 1e-9):
        with pytest.raises(RuntimeError, match="dtype"):
            expert_mixture(*weights.values(), gates=gates, negligible=negligible)


def test_single_precision_strays_no_further_than_the_reference():
    exact = [*parts(70, 5, 20, 33, 40), torch.softmax(wave(70, 5, f=0.7), dim=1)]
    upstream = wave(70, 40, f=0.3)
    found = []
    for dtype, how in ((torch.float32, {"negligible": 1e-9}), (torch.float32, {}), (torch.float64, {})):
        leaves = [t.to(dtype).requires_grad_() for t in exact]
        y = expert_mixture(*leaves[:5], gates=leaves[5], **(how or {"backend": "reference"}))
        y.backward(upstream.to(dtype))
        found.append([y.detach(), *(t.grad for t in leaves)])
    for ours, plain, truth in zip(*found, strict=True):
        assert_earned(ours, plain, truth, hair=32.0)


def test_golden_value_of_distillation_experts():
    student, teacher = wave(3, 2, f=0.3), wave(3, 4, f=0.9)
    w1, b1 = wave(2, 3, 2, f=0.5), 0.1 * wave(2, 3, f=0.2)
    w2, b2 = wave(2, 4, 3, f=0.4).transpose(1, 2), 0.1 * wave(2, 4, f=0.6)
    logits = teacher @ wave(2, 4, f=0.8).T + torch.tensor([0.0, 0.1], dtype=torch.float64) + 0.5 * wave(3, 2, f=1.1)
    gates = torch.softmax(logits / 0.5, dim=1)
    assert gates[0].tolist() == pytest.approx([0.9996, 0.0004], abs=5e-5)
    loss = (teacher - expert_mixture(student, w1, b1, w2, b2, gates=gates)).square().sum()
    assert loss.item() == pytest.approx(11.71314129812793, rel=1e-13)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_gradients_against_differences(backend):
    weights = [t.requires_grad_(True) for t in parts(4, 3, 2, 3, 2)]
    gates = torch.softmax(wave(4, 3, f=0.7), dim=1).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda *t: expert_mixture(*t[:5], gates=t[5], backend=backend), [*weights, gates])


def test_float32_strays_no_further_than_the_reference():
    exact = parts(65, 7, 20, 33, 41)
    gates = torch.softmax(3.0 * wave(65, 7, f=0.7), dim=1)
    truth = expert_mixture(*exact, gates=gates, backend="reference")
    single = [t.float() for t in exact]
    errors = [
        (expert_mixture(*single, gates=gates.float(), backend=b).double() - truth).abs().max()
        for b in ("auto", "reference")
    ]
    assert errors[0] <= 2.0 * errors[1] + 1e-6


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(0, 90), experts=st.integers(1, 6), seed=st.integers(0, 1000), spread=st.booleans())
def test_choice_is_the_one_hot_mixture(rows, experts, seed, spread):
    weights = [t.requires_grad_(True) for t in parts(rows, experts, 3, 4, 2, seed=seed)]
    random = torch.Generator().manual_seed(seed)
    # Either any expert, or all rows on one: the fullest a group can be.
    chosen = torch.randint(experts if spread else 1, (rows,), generator=random)
    gates = torch.nn.functional.one_hot(chosen, experts).double()
    upstream = torch.randn(rows, 2, generator=random, dtype=torch.float64)
    wanted = expert_mixture(*weights, gates=gates, backend="reference")
    ordered = chosen.sort(stable=True)
    x, *others = weights
    blocks = _by_blocks(x[ordered.indices], ordered.values, *others)
    # The form with counts, which the CPU takes, and the form in blocks, which other devices take.
    for found in (
        expert_choice(*weights, chosen=chosen),
        torch.zeros_like(blocks).index_copy(0, ordered.indices, blocks),
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
        gradients = (torch.autograd.grad(o, weights, upstream, retain_graph=True) for o in (found, wanted))
        for got, expected in zip(*gradients, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(0, 40),
    experts=st.integers(2, 6),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.2, 0.5]),
)
def test_negligible_gates_are_left_out_and_get_no_gradient(rows, experts, seed, share):
    weights = [t.requires_grad_(True) for t in parts(rows, experts, 3, 4, 2, seed=seed)]
    random = torch.Generator().manual_seed(seed)
    gates = torch.rand(rows, experts, generator=random, dtype=torch.float64)
    gates = torch.where(gates < share, gates, 1e-9 * gates).requires_grad_(True)
    # With more of them the mixture is made of all, those that could be left out too.
    assume(int((gates > 1e-8).sum()) < 0.6 * gates.numel())
    upstream = torch.randn(rows, 2, generator=random, dtype=torch.float64)
    found = expert_mixture(*weights, gates=gates, negligible=1e-8)
    wanted = expert_mixture(*weights, gates=torch.where(gates > 1e-8, gates, 0.0), backend="reference")
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    pair = (torch.autograd.grad(y, (*weights, gates), upstream) for y in (found, wanted))
    for a, b in zip(*pair, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cells", [1, 40, 1 << 20])
def test_rows_at_a_time_are_the_formula(cells, monkeypatch):
    monkeypatch.setattr(_mixture_tiles, "_CELLS", cells)
    weights = [t.requires_grad_(True) for t in parts(17, 3, 2, 4, 5)]
    gates = torch.softmax(wave(17, 3, f=0.7), dim=1).requires_grad_(True)
    upstream = wave(17, 5, f=0.3)
    found, wanted = (
        expert_mixture(*weights, gates=gates, **how) for how in ({"negligible": 1e-12}, {"backend": "reference"})
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    pair = (torch.autograd.grad(y, (*weights, gates), upstream) for y in (found, wanted))
    for a, b in zip(*pair, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_choice_leaves_an_unchosen_expert_without_gradient():
    weights = [t.requires_grad_(True) for t in parts(9, 3, 2, 3, 2)]
    expert_choice(*weights, chosen=torch.tensor([0, 2] * 4 + [0])).sum().backward()
    for weight in weights[1:]:
        assert weight.grad[1].abs().sum() == 0
        assert weight.grad[0].abs().sum() > 0


def test_huge_inputs_stay_finite():
    x, *weights = parts(6, 3, 2, 3, 2, dtype=torch.float32)
    gates = torch.full((6, 3), 1 / 3)
    assert torch.isfinite(expert_mixture(1e4 * x, *weights, gates=gates)).all()


def test_shapes_that_do_not_fit_are_named():
    x, w1, b1, w2, b2 = parts(4, 3, 2, 5, 6)
    with pytest.raises(ValueError, match=r"got \[\[4, 2\], \[3, 5, 2\], \[3, 4\]"):
        expert_mixture(x, w1, b1[:, :4], w2, b2, gates=torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"gates must be \[4, 3\].*got \[4, 2\]"):
        expert_mixture(x, w1, b1, w2, b2, gates=torch.ones(4, 2))
    with pytest.raises(ValueError, match=r"chosen must be \[4\].*got \[3\]"):
        expert_choice(x, w1, b1, w2, b2, chosen=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(BackendError, match="expert_mixture cannot run with backend='numba'"):
        expert_mixture(x, w1, b1, w2, b2, gates=torch.ones(4, 3), backend="numba")


def test_grouping_reads_no_value_back():
    # Tensors without data: whatever would wait for a device raises here.
    with FakeTensorMode():
        shapes = ((50, 2), (3, 4, 2), (3, 4), (3, 4, 6), (3, 6))
        x, *weights = [torch.empty(shape).requires_grad_(True) for shape in shapes]
        output = _by_blocks(x, torch.zeros(50, dtype=torch.int64), *weights)
        output.sum().backward()
        assert output.shape == (50, 6)
