from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import soft_bce, weighted_bce
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, pad, wave
from tests.contracts.op_contract import OpContract

BACKENDS = backends_of("soft_bce")
TEMPERATURE, SHIFT = 1.7, 0.3


def logistic_loss(x):
    """-log sigma(x)."""
    return max(-x, 0.0) + math.log1p(math.exp(-abs(x)))


class TestContract(OpContract):
    op = "soft_bce"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        scores = scale * torch.randn(rows, 9, generator=random, dtype=torch.float64)
        return [pad(scores, 0) if padded else scores]

    def constants(self, rows, device="cpu"):
        return (5 * wave(rows, 9, 0.7)).to(device), (0.1 + wave(rows, 9, 0.2).abs()).to(device)

    def call(self, inputs, backend="auto"):
        teacher, weights = self.constants(inputs[0].shape[0], inputs[0].device)
        return soft_bce(
            inputs[0], teacher, temperature=TEMPERATURE, shift=SHIFT, weights=weights, backend=backend
        )  # fmt: skip

    def by_hand(self, inputs):
        out = []
        for rows in zip(inputs[0].tolist(), *(t.tolist() for t in self.constants(len(inputs[0]))), strict=True):
            total = 0.0
            for s, t, w in zip(*rows, strict=True):
                q = 1.0 / (1.0 + math.exp(-(t + SHIFT) / TEMPERATURE))
                if s != -math.inf:
                    total += w * (q * logistic_loss(s) + (1 - q) * logistic_loss(-s))
            out.append(total)
        return torch.tensor(out, dtype=torch.float64)

    def native_calls(self):
        op = torch.ops.fastkd.soft_bce.default
        scores, (teacher, weights) = self.inputs(rows=3)[0].float(), self.constants(3)
        return [(op, (scores.clone().requires_grad_(), teacher, None, 1.0, 0.0, False, "numba")),
                (op, (scores, teacher.float(), weights, 2.0, 0.5, True, "numba"))]  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_weighted_bce_of_the_teachers_probabilities(backend):
    scores, teacher = 3 * wave(4, 6, 0.9), 4 * wave(4, 6, 0.4)
    found = soft_bce(scores, teacher, temperature=2.0, shift=-1.0, backend=backend)
    assert_near(found, weighted_bce(scores, torch.sigmoid((teacher - 1) / 2), backend="reference"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_certain_teacher_loses_no_digits(backend, sign):
    """q rounds to 1 in float32 long before 1 - q rounds to 0: both are made from the teacher's score."""
    scores = torch.tensor([[-40.0 * sign]], requires_grad=True)
    soft_bce(scores, torch.tensor([[30.0 * sign]]), backend=backend).sum().backward()
    assert scores.grad.item() == pytest.approx(-sign, rel=2 * torch.finfo(torch.float32).eps)
    same = torch.tensor([[30.0 * sign]], requires_grad=True)
    soft_bce(same, torch.tensor([[30.0 * sign]]), backend=backend).sum().backward()
    assert abs(same.grad.item()) < 1e-19


def test_bad_arguments_are_named():
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"teacher must be shaped like scores, \[2, 3\], got \[3, 2\]"):
        soft_bce(scores, scores.T)
    with pytest.raises(ValueError, match="temperature must be a positive finite number, got -2"):
        soft_bce(scores, scores, temperature=-2)
    with pytest.raises(ValueError, match="shift must be a finite number, got nan"):
        soft_bce(scores, scores, shift=math.nan)
    with pytest.raises(ValueError, match=r"teacher is a constant .* pass teacher.detach\(\)"):
        soft_bce(scores, torch.zeros(2, 3, requires_grad=True))
