from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import weighted_bce
from tests.contracts.backends import backends_of
from tests.contracts.closeness import pad, wave
from tests.contracts.op_contract import OpContract

BACKENDS = backends_of("weighted_bce")


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def by_hand(scores, targets, weights=None):
    out = []
    for b in range(len(scores)):
        terms = []
        for c, s in enumerate(scores[b].tolist()):
            if s != -math.inf:
                q = float(targets[b, c])
                term = q * softplus(-s) + (1 - q) * softplus(s)
                terms.append(term * (1.0 if weights is None else float(weights[b, c])))
        out.append(math.fsum(terms))
    return torch.tensor(out, dtype=torch.float64)


def targets_for(scores):
    return torch.linspace(0.0, 1.0, scores.shape[0] * scores.shape[1], dtype=torch.float64).view(scores.shape)


def weights_for(scores):
    return 0.5 + 2 * targets_for(scores)


class TestPlain(OpContract):
    op = "weighted_bce"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        scores = scale * torch.randn(rows, 5, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
        return [pad(scores, 1) if padded else scores]

    def call(self, inputs, backend="auto"):
        return weighted_bce(inputs[0], targets_for(inputs[0]), backend=backend)

    def by_hand(self, inputs):
        return by_hand(inputs[0], targets_for(inputs[0]))

    def native_calls(self):
        scores = self.inputs(rows=3, padded=False)[0].float().requires_grad_()
        targets = targets_for(scores)
        op = torch.ops.fastkd.weighted_bce.default
        return [(op, (scores, targets, None, False, "numba")), (op, (scores.detach(), targets, targets, True, "numba"))]


class TestWeighted(TestPlain):
    def call(self, inputs, backend="auto"):
        return weighted_bce(inputs[0], targets_for(inputs[0]), weights=weights_for(inputs[0]), backend=backend)

    def by_hand(self, inputs):
        return by_hand(inputs[0], targets_for(inputs[0]), weights_for(inputs[0]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_golden_value(backend):
    """The published example of collaborative distillation: q = sigma((t + T2) / T1)."""
    teacher = torch.tensor([[2.0, 0, -1, 3]], dtype=torch.float64)
    scores = torch.tensor([[1.0, -1, 0.5, 0]], dtype=torch.float64)
    found = weighted_bce(scores, torch.sigmoid(teacher / 2), backend=backend)
    assert found.item() == pytest.approx(2.87391862674742, abs=1e-14)  # its last published digit


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_scores_far_beyond_exp(backend, q):
    scores = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    value = weighted_bce(scores, torch.full((2, 1), q), backend=backend)
    value.sum().backward()
    assert value.tolist() == pytest.approx([(1 - q) * 1e4, q * 1e4], rel=2 * torch.finfo(torch.float32).eps)
    assert scores.grad[:, 0].tolist() == pytest.approx([1 - q, -q], rel=2 * torch.finfo(torch.float32).eps)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_and_width_zero_give_zero(backend):
    scores = torch.full((2, 3), -torch.inf, requires_grad=True)
    value = weighted_bce(scores, torch.ones(2, 3), backend=backend)
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert not scores.grad.any()
    assert weighted_bce(scores[:, :0], torch.ones(2, 0), backend=backend).tolist() == [0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_in_its_row(backend):
    scores = wave(3, 4, 0.7)
    scores[1, 2] = torch.nan
    scores.requires_grad_()
    value = weighted_bce(scores, torch.full((3, 4), 0.5), backend=backend)
    value.sum().backward()
    assert value.isnan().tolist() == [False, True, False]
    assert scores.grad.isnan().sum() == 1


def test_tiny_gradients_are_not_lost():
    scores = torch.tensor([[50.0]], dtype=torch.float64, requires_grad=True)
    weighted_bce(scores, torch.ones(1, 1, dtype=torch.float64), backend="numba").sum().backward()
    assert scores.grad.item() == pytest.approx(-math.exp(-50), rel=4 * torch.finfo(torch.float64).eps)


def test_bad_arguments_are_named():
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"targets must be shaped like scores, \[2, 3\], got \[3, 2\]"):
        weighted_bce(scores, scores.T)
    with pytest.raises(ValueError, match=r"targets is a constant .* pass targets.detach\(\)"):
        weighted_bce(scores, torch.zeros(2, 3, requires_grad=True))
    with pytest.raises(TypeError, match=r"targets must be a floating-point tensor .* got torch.bool"):
        weighted_bce(scores, scores > 0)
    with pytest.raises(ValueError, match=r"weights must be shaped like scores, \[2, 3\], got \[3\]"):
        weighted_bce(scores, scores, weights=scores[0])
