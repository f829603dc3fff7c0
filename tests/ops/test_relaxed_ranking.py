from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.ops import relaxed_ranking
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, pad, wave
from tests.contracts.op_contract import OpContract

BACKENDS = backends_of("relaxed_ranking")
ROUNDING = torch.finfo(torch.float32).eps


def by_hand(ranked, unranked, weights=None):
    """Sum over k of the log of everything not yet placed, minus the score placed; one max per logarithm."""
    out = []
    for b in range(len(ranked)):
        total = 0.0
        for k in range(ranked.shape[1]):
            if ranked[b, k] == -math.inf:
                continue
            left = [s for s in [*ranked[b, k:].tolist(), *unranked[b].tolist()] if s != -math.inf]
            top = max(left)
            term = top - float(ranked[b, k]) + math.log(math.fsum(math.exp(s - top) for s in left))
            total += term * (1.0 if weights is None else float(weights[b, k]))
        out.append(total)
    return torch.tensor(out, dtype=torch.float64)


def weights_for(ranked):
    return (0.25 + 0.05 * torch.arange(ranked.shape[0] * ranked.shape[1]).view(ranked.shape[:2])).to(ranked.device)


class TestPlain(OpContract):
    op = "relaxed_ranking"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        lists = [scale * torch.randn(rows, n, generator=random, dtype=torch.float64) for n in (5, 9)]
        return [pad(t, seed) for seed, t in enumerate(lists)] if padded else lists

    def call(self, inputs, backend="auto"):
        return relaxed_ranking(*inputs, backend=backend)

    def by_hand(self, inputs):
        return by_hand(*inputs)

    def native_calls(self):
        op = torch.ops.fastkd.relaxed_ranking.default
        a, b = (t.float().requires_grad_() for t in self.inputs(rows=3, padded=False))
        return [(op, (a, b, None, False, "numba")), (op, (a.detach(), b.detach(), weights_for(a), True, "numba"))]


class TestWeighted(TestPlain):
    def call(self, inputs, backend="auto"):
        return relaxed_ranking(*inputs, weights=weights_for(inputs[0]), backend=backend)

    def by_hand(self, inputs):
        return by_hand(*inputs, weights_for(inputs[0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_value(backend):
    ranked, unranked = (2 * wave(3, 4, 0.7)).requires_grad_(), (2 * wave(3, 5, 1.3, 0.5)).requires_grad_()
    total = relaxed_ranking(ranked, unranked, backend=backend).sum()
    total.backward()
    assert total.item() == pytest.approx(33.241296031273016, rel=16 * torch.finfo(torch.float64).eps)
    # Published to six digits.
    assert ranked.grad[0].tolist() == pytest.approx([-0.730312, -0.49962, -0.68457, -0.878169], abs=5e-7)
    assert unranked.grad[0].tolist() == pytest.approx([0.267031, 0.036635, 0.081682, 0.914316, 1.493006], abs=5e-7)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_unranked_is_listmle(backend):
    ranked = 3 * wave(4, 6, 0.9)
    expected = by_hand(ranked, ranked[:, :0])
    found = relaxed_ranking(ranked, ranked[:, :0], backend=backend)
    assert_near(found, expected)
    assert relaxed_ranking(ranked[:, :1], ranked[:, :0], backend=backend).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [0, 3])
def test_row_with_nothing_ranked_is_zero(backend, width):
    ranked = torch.full((2, width), -torch.inf, requires_grad=True)
    unranked = torch.tensor([[1.0, 2.0], [-torch.inf, -torch.inf]], requires_grad=True)
    loss = relaxed_ranking(ranked, unranked, backend=backend)
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert not ranked.grad.any()
    assert not unranked.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_is_as_if_it_were_not_there(backend):
    ranked = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    unranked = torch.tensor([[0.1, 1.7]], dtype=torch.float64, requires_grad=True)
    short = relaxed_ranking(ranked, unranked, backend=backend)
    nothing = torch.full((1, 1), -torch.inf, dtype=torch.float64)
    padded = torch.cat([nothing, ranked[:, :2], nothing, ranked[:, 2:], nothing], 1)
    long = relaxed_ranking(padded, torch.cat([unranked[:, :1], nothing, unranked[:, 1:]], 1), backend=backend)
    assert long.item() == pytest.approx(short.item(), rel=4 * torch.finfo(torch.float64).eps)
    for a, b in zip(*(torch.autograd.grad(t.sum(), (ranked, unranked)) for t in (short, long)), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize(
    ("backend", "score", "tolerance"),
    # Two roundings of 1; plain torch takes rounded numbers of the scores' size from each other.
    [("numba", s, 2 * ROUNDING) for s in (0.0, 1e4, -1e4, 3e37)]
    + [("reference", s, 2 * ROUNDING * max(1.0, abs(s))) for s in (0.0, 1e4, -1e4)],
)
def test_equal_scores(backend, score, tolerance):
    ranked = torch.full((1, 3), score, requires_grad=True)
    unranked = torch.full((1, 2), score, requires_grad=True)
    loss = relaxed_ranking(ranked, unranked, backend=backend)
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(5 * 4 * 3), abs=4 * tolerance)
    expected = [1 / 5 - 1, 1 / 5 + 1 / 4 - 1, 1 / 5 + 1 / 4 + 1 / 3 - 1]
    assert ranked.grad[0].tolist() == pytest.approx(expected, abs=tolerance)
    assert unranked.grad[0].tolist() == pytest.approx([1 / 5 + 1 / 4 + 1 / 3] * 2, abs=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_beyond_exp(backend):
    ranked = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    unranked = torch.tensor([[0.0], [0.0]], requires_grad=True)
    loss = relaxed_ranking(ranked, unranked, backend=backend)
    loss.sum().backward()
    assert loss.tolist() == [1e4, 2e4]
    # One place of the second row goes to the wrong item: gradient 1 on it. Plain torch is 4e-4 off at this size.
    expected = torch.tensor([[0.0, -1.0], [-1.0, 1.0]])
    assert_near(ranked.grad, expected, hair=0 if backend == "numba" else 1, scale=1e4)
    assert unranked.grad.tolist() == [[1], [0]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["ranked", "unranked"])
def test_nan_stays_in_its_row(backend, where):
    scores = {"ranked": wave(3, 4, 0.7), "unranked": wave(3, 5, 1.3)}
    scores[where][1, 2] = torch.nan
    leaves = [t.requires_grad_() for t in scores.values()]
    loss = relaxed_ranking(*leaves, backend=backend)
    loss.sum().backward()
    assert loss.isnan().tolist() == [False, True, False]
    for leaf in leaves:
        assert leaf.grad[[0, 2]].isfinite().all()
    assert leaves[0].grad[1].isnan().any()


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_gradient_of_a_row_sums_to_zero(rows, length, others, seed):
    """Adding a constant to all scores of a row changes nothing."""
    random = torch.Generator().manual_seed(seed)
    lists = [8 * torch.randn(rows, n, generator=random, dtype=torch.float64) for n in (length, others)]
    leaves = [pad(t, seed + i).requires_grad_() for i, t in enumerate(lists)]
    loss = relaxed_ranking(*leaves, backend="numba")
    assert_near(loss, by_hand(*(t.detach() for t in leaves)))
    loss.sum().backward()
    total = leaves[0].grad.sum(1) + leaves[1].grad.sum(1)
    assert_near(total, torch.zeros(rows, dtype=torch.float64), scale=1.0)


def test_bad_arguments_are_named():
    ranked, unranked = torch.zeros(2, 3), torch.zeros(2, 4)
    with pytest.raises(TypeError, match=r"ranked must be Float\[B K\], got torch.int64"):
        relaxed_ranking(ranked.long(), unranked)
    with pytest.raises(TypeError, match=r"unranked must be a tensor Float\[B L\], got list"):
        relaxed_ranking(ranked, [[1.0]])
    with pytest.raises(ValueError, match=r"ranked must be Float\[B K\], got shape \[3\]"):
        relaxed_ranking(ranked[0], unranked)
    with pytest.raises(ValueError, match=r"ranked and unranked .* rows, got \[2, 3\] and \[1, 4\]"):
        relaxed_ranking(ranked, unranked[:1])
    with pytest.raises(ValueError, match=r"weights must be shaped like ranked, \[2, 3\], got \[2, 4\]"):
        relaxed_ranking(ranked, unranked, weights=unranked)
    with pytest.raises(TypeError, match=r"weights must be .* like ranked, got torch.int64"):
        relaxed_ranking(ranked, unranked, weights=ranked.long())
    with pytest.raises(ValueError, match=r"weights .* no gradient; pass weights.detach\(\)"):
        relaxed_ranking(ranked, unranked, weights=torch.ones(2, 3, requires_grad=True))
    with pytest.raises(ValueError, match=r"same device, got cpu and meta"):
        relaxed_ranking(ranked, unranked.to("meta"))
