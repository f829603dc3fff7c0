from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import lambda_pairs
from tests.contracts.backends import backends_of, interpreted
from tests.contracts.closeness import assert_near, pad, wave
from tests.contracts.op_contract import OpContract

BACKENDS = backends_of("lambda_pairs")
KINDS = ("lambdarank", "lambdaloss", "uniform")


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def by_hand(scores, gains=None, weights="lambdarank", sigma=1.0):
    """Pair by pair, from ranks found by sorting."""
    out = []
    for b, row in enumerate(scores.tolist()):
        there = [k for k, s in enumerate(row) if s != -math.inf]
        rank = {k: r for r, k in enumerate(sorted(there, key=lambda k: (-row[k], k)), 1)}
        gain = {k: 1 / math.log2(2 + k) if gains is None else float(gains[b, k]) for k in there}
        ideal = math.fsum(gain[k] / math.log2(1 + place) for place, k in enumerate(there, 1))
        terms = []
        for i in there:
            for j in (k for k in there if k > i):
                if isinstance(weights, torch.Tensor):
                    weight = float(weights[i, j])
                elif weights == "uniform":
                    weight = 1.0
                elif weights == "lambdarank":
                    swap = 1 / math.log2(1 + rank[i]) - 1 / math.log2(1 + rank[j])
                    weight = abs((gain[i] - gain[j]) * swap) / ideal if ideal else 0.0
                else:
                    d = abs(rank[i] - rank[j])
                    weight = abs(gain[i] - gain[j]) * (1 / math.log2(1 + d) - 1 / math.log2(2 + d))
                    weight = weight / ideal if ideal else 0.0
                terms.append(weight * softplus(-sigma * (row[i] - row[j])))
        out.append(math.fsum(terms))
    return torch.tensor(out, dtype=torch.float64)


class TestLambdaRank(OpContract):
    op = "lambda_pairs"
    weights, sigma, width = "lambdarank", 1.0, 9

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        scores = scale * torch.randn(rows, self.width, generator=random, dtype=torch.float64)
        return [pad(scores, 0) if padded else scores]

    def gains(self, scores):
        return None

    def call(self, inputs, backend="auto"):
        weights = self.weights.to(inputs[0].device) if isinstance(self.weights, torch.Tensor) else self.weights
        return lambda_pairs(inputs[0], self.gains(inputs[0]), weights=weights, sigma=self.sigma, backend=backend)

    def by_hand(self, inputs):
        return by_hand(inputs[0], self.gains(inputs[0]), self.weights, self.sigma)

    def native_calls(self):
        op, scores = torch.ops.fastkd.lambda_pairs.default, self.inputs(rows=3)[0].float()
        return [
            (op, (scores.clone().requires_grad_(), None, None, "lambdarank", 1.5, False, "numba")),
            (op, (scores, scores.exp(), None, "lambdaloss", 0.5, True, "numba")),
            (op, (scores, None, wave(self.width, self.width, 0.3), "given", 0.5, True, "numba")),
        ]


class _Other(TestLambdaRank):
    # What does not depend on the weights is tested above.
    test_opcheck = test_calls_from_several_threads_at_once = test_autocast = test_no_rows = None
    test_backends_are_obeyed_or_refused = test_strides_do_not_matter = test_backward_twice_gives_the_same = None
    test_same_bits_for_any_number_of_threads = test_half_precision_is_computed_in_float32 = None
    test_gradient_only_where_wanted = test_native_refuses_a_second_derivative = None


class TestLambdaLossGraded(_Other):
    weights, sigma = "lambdaloss", 0.7

    def gains(self, scores):
        grades = torch.arange(scores.numel(), device=scores.device).view(scores.shape) * 5 % 4
        return (2.0**grades - 1).to(scores.device)


class TestUniform(_Other):
    weights = "uniform"
    test_compiles_without_a_graph_break = None


class TestGiven(_Other):
    weights = 1 + wave(9, 9, 0.3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", KINDS)
@pytest.mark.parametrize("width", [1, 33, 70])
def test_lists_of_several_tiles(backend, weights, width):
    scores = (3 * wave(2, width, 0.37)).requires_grad_()
    gains = (wave(2, width, 0.21) + 1).float()
    value = lambda_pairs(scores, gains, weights=weights, sigma=2.0, backend=backend)
    assert_near(value, by_hand(scores, gains, weights, 2.0))
    expected = lambda_pairs(scores, gains, weights=weights, sigma=2.0, backend="reference")
    found = torch.autograd.grad(value.sum(), scores)[0]
    assert_near(found, torch.autograd.grad(expected.sum(), scores)[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("weights", "golden", "slopes"), [
    ("lambdarank", 0.55440899075717182,
     [-0.24290082617529967, 0.13663383304763147, -0.0049509165189247564, 0.11121790964659296]),
    ("lambdaloss", 0.47756395115168237,
     [-0.25980193534727516, 0.013183412917142741, 0.031430483014790615, 0.2151880394153418]),
    ("uniform", 5.365680590280549, [-1.622459331201855, 0.501207181646082, -0.650945680993959, 1.772197830549732]),
])  # fmt: skip
def test_golden_values(backend, weights, golden, slopes):
    """Made with 40 digits by a script that knows the formula alone."""
    scores = torch.tensor([[0.5, 2.0, -1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    gains = torch.tensor([[7.0, 3.0, 1.0, 0.0]])
    value = lambda_pairs(scores, gains, weights=weights, backend=backend)
    value.sum().backward()
    assert value.item() == pytest.approx(golden, rel=16 * torch.finfo(torch.float64).eps)
    assert_near(scores.grad[0], torch.tensor(slopes, dtype=torch.float64), hair=16)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", KINDS)
def test_padding_is_as_if_it_were_not_there(backend, weights):
    scores, gains = wave(2, 5, 0.4), torch.tensor([[5.0, 4.0, 3.0, 1.0, 0.0]]).expand(2, 5)
    nothing = torch.full((2, 1), -torch.inf)
    long = torch.cat([nothing, scores[:, :2], nothing, scores[:, 2:]], 1).requires_grad_()
    wide = torch.cat([torch.full((2, 1), 3.0), gains[:, :2], torch.full((2, 1), 9.0), gains[:, 2:]], 1)
    found = lambda_pairs(long, wide, weights=weights, backend=backend)
    assert_near(found, lambda_pairs(scores, gains, weights=weights, backend=backend))
    found.sum().backward()
    assert not long.grad[:, [0, 3]].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", KINDS)
def test_rows_without_a_pair_are_zero(backend, weights):
    scores = torch.tensor([[1.0, -torch.inf], [-torch.inf, -torch.inf]], requires_grad=True)
    value = lambda_pairs(scores, weights=weights, backend=backend)
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert not scores.grad.any()
    assert lambda_pairs(scores[:, :0], weights=weights, backend=backend).tolist() == [0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gains_of_nothing_weigh_nothing(backend):
    scores = wave(2, 4, 0.4).requires_grad_()
    value = lambda_pairs(scores, torch.zeros(2, 4), backend=backend)
    value.sum().backward()
    assert value.tolist() == [0, 0]
    assert not scores.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", KINDS)
def test_nan_stays_in_its_row(backend, weights):
    scores = wave(3, 4, 0.7)
    scores[1, 2] = torch.nan
    scores.requires_grad_()
    value = lambda_pairs(scores, weights=weights, backend=backend)
    value.sum().backward()
    assert value.isnan().tolist() == [False, True, False]
    assert scores.grad[[0, 2]].isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_far_beyond_exp(backend):
    scores = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    value = lambda_pairs(scores, weights="uniform", backend=backend)
    value.sum().backward()
    assert value.tolist() == [0, 2e4]
    assert scores.grad.tolist() == [[0, 0], [-1, 1]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("weights", KINDS)
def test_of_equal_scores_the_one_further_up_ranks_first(backend, weights):
    """Ranks by hand; -0.0 and 0.0 are one score."""
    for row, ranks in (([2.0, 1, 1, 1, 2], [1, 3, 4, 5, 2]), ([0.0, -0.0, 0, -0.0, 0], [1, 2, 3, 4, 5])):
        scores = torch.tensor([row], dtype=torch.float64, requires_grad=True)
        gains = torch.tensor([[1.0, 0.0, 5.0, 2.0, 3.0]], dtype=torch.float64)
        value = lambda_pairs(scores, gains, weights=weights, backend=backend)
        gain = gains[0] / sum(float(g) / math.log2(2 + k) for k, g in enumerate(gains[0]))
        expected = 0.0
        for i in range(5):
            for j in range(i + 1, 5):
                d = abs(ranks[i] - ranks[j])
                stake = {
                    "uniform": 1.0,
                    "lambdarank": abs(1 / math.log2(1 + ranks[i]) - 1 / math.log2(1 + ranks[j])),
                    "lambdaloss": 1 / math.log2(1 + d) - 1 / math.log2(2 + d),
                }[weights]
                worth = 1.0 if weights == "uniform" else abs(float(gain[i] - gain[j]))
                expected += worth * stake * softplus(row[j] - row[i])
        assert value.item() == pytest.approx(expected, rel=64 * torch.finfo(torch.float64).eps)
        plain = torch.autograd.grad(lambda_pairs(scores, gains, weights=weights, backend="reference").sum(), scores)[0]
        assert_near(torch.autograd.grad(value.sum(), scores)[0], plain)


@pytest.mark.parametrize("native", [b for b in BACKENDS if b != "reference" and not interpreted(b)])
def test_a_list_of_a_thousand(native):
    scores = torch.randn(2, 1024, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    values = [lambda_pairs(scores, backend=backend) for backend in (native, "reference")]
    assert_near(*values)
    gradients = [torch.autograd.grad(value.sum(), scores)[0] for value in values]
    assert_near(*gradients)


def test_bad_arguments_are_named():
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"weights must be one of lambdarank.*'lambdrank'.*Did you mean 'lambdarank'"):
        lambda_pairs(scores, weights="lambdrank")
    with pytest.raises(ValueError, match=r"weights must be \[3, 3\] for lists of 3, got \[2, 3\]"):
        lambda_pairs(scores, weights=scores)
    with pytest.raises(ValueError, match=r"weights is a constant .* pass weights.detach\(\)"):
        lambda_pairs(scores, weights=torch.zeros(3, 3, requires_grad=True))
    with pytest.raises(ValueError, match=r"gains must be shaped like scores, \[2, 3\], got \[3\]"):
        lambda_pairs(scores, torch.zeros(3))
    with pytest.raises(ValueError, match="sigma must be a positive finite number, got 0"):
        lambda_pairs(scores, sigma=0)
