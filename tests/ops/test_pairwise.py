from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import pairwise
from tests.contracts.backends import backends_of
from tests.contracts.closeness import pad, wave
from tests.contracts.op_contract import OpContract

ROUNDING = torch.finfo(torch.float32).eps
BACKENDS = backends_of("pairwise")

MARGIN = 0.7


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def by_hand(positive, negative, loss, weights=None):
    out = []
    for b in range(len(positive)):
        p, terms = float(positive[b]), []
        for j, n in enumerate(negative[b].tolist()):
            if -math.inf not in (p, n):
                term = softplus(n - p) if loss == "bpr" else max(0.0, MARGIN - (p - n))
                terms.append(term * (1.0 if weights is None else float(weights[b, j])))
        out.append(math.fsum(terms) / max(len(terms), 1))
    return torch.tensor(out, dtype=torch.float64)


def weights_for(negative):
    return 0.25 + 0.05 * torch.arange(negative.shape[0] * negative.shape[1]).view(negative.shape[:2])


class TestBpr(OpContract):
    op = "pairwise"
    loss = "bpr"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        positive, negative = (
            scale * torch.randn(*s, generator=random, dtype=torch.float64) for s in ((rows,), (rows, 4))
        )
        return [pad(positive, 0), pad(negative, 1)] if padded else [positive, negative]

    def call(self, inputs, backend="auto"):
        return pairwise(*inputs, loss=self.loss, margin=MARGIN, backend=backend)

    def by_hand(self, inputs):
        return by_hand(*inputs, self.loss)

    def native_calls(self):
        op = torch.ops.fastkd.pairwise.default
        a, b = (t.float().requires_grad_() for t in self.inputs(rows=3, padded=False))
        return [
            (op, (a, b, None, self.loss, MARGIN, False, "numba")),
            (op, (a, b.detach(), weights_for(b), self.loss, MARGIN, False, "numba")),
        ]


class TestMargin(TestBpr):
    loss = "margin"


class TestWeighted(TestBpr):
    def call(self, inputs, backend="auto"):
        return pairwise(*inputs, weights=weights_for(inputs[1]), backend=backend)

    def by_hand(self, inputs):
        return by_hand(*inputs, "bpr", weights_for(inputs[1]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", ["bpr", "margin"])
def test_scores_far_beyond_exp(backend, loss):
    positive = torch.tensor([1e4, -1e4, 1e4], requires_grad=True)
    negative = torch.tensor([[-1e4], [1e4], [1e4]], requires_grad=True)
    value = pairwise(positive, negative, loss=loss, margin=1.0, backend=backend)
    value.sum().backward()
    tie, slope = (math.log(2), 0.5) if loss == "bpr" else (1.0, 1.0)
    assert value.tolist() == pytest.approx([0, 2e4 + (loss == "margin"), tie], rel=2 * ROUNDING)
    assert positive.grad.tolist() == pytest.approx([0, -1, -slope], rel=ROUNDING)
    assert negative.grad[:, 0].tolist() == pytest.approx([0, 1, slope], rel=ROUNDING)


@pytest.mark.parametrize("backend", BACKENDS)
def test_margin_has_no_slope_where_it_ends(backend):
    positive = torch.tensor([1.0], requires_grad=True)
    value = pairwise(positive, torch.zeros(1, 1), loss="margin", margin=1.0, backend=backend)
    value.sum().backward()
    assert (value.item(), positive.grad.item()) == (0, 0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", ["bpr", "margin"])
def test_rows_without_a_pair_are_zero(backend, loss):
    positive = torch.tensor([-torch.inf, 1.0], requires_grad=True)
    negative = torch.tensor([[2.0, 3.0], [-torch.inf, -torch.inf]], requires_grad=True)
    value = pairwise(positive, negative, loss=loss, backend=backend)
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert not positive.grad.any()
    assert not negative.grad.any()
    assert pairwise(positive, negative[:, :0], loss=loss, backend=backend).tolist() == [0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loss", ["bpr", "margin"])
def test_nan_stays_in_its_row(backend, loss):
    positive, negative = wave(1, 3, 0.7)[0], wave(3, 4, 1.3)
    negative[1, 2] = torch.nan
    positive[2] = torch.nan
    leaves = [positive.requires_grad_(), negative.requires_grad_()]
    value = pairwise(*leaves, loss=loss, backend=backend)
    value.sum().backward()
    assert value.isnan().tolist() == [False, True, True]
    assert leaves[0].grad[0].isfinite()
    assert leaves[1].grad[0].isfinite().all()


def test_bad_arguments_are_named():
    positive, negative = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"loss must be one of bpr, margin, got 'brp'. Did you mean 'bpr'"):
        pairwise(positive, negative, loss="brp")
    with pytest.raises(ValueError, match="margin must be a finite number, got nan"):
        pairwise(positive, negative, loss="margin", margin=math.nan)
    with pytest.raises(ValueError, match=r"positive must be Float\[B\], got shape \[2, 1\]"):
        pairwise(positive[:, None], negative)
    with pytest.raises(ValueError, match=r"positive and negative .* rows, got \[2\] and \[1, 3\]"):
        pairwise(positive, negative[:1])
    with pytest.raises(ValueError, match=r"weights must be shaped like negative, \[2, 3\], got \[2\]"):
        pairwise(positive, negative, weights=positive)
