from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import catalogue_divergence, catalogue_softmax
from fastkd.ops.catalogue_divergence import KINDS
from tests.contracts.backends import backends_of, device_of
from tests.contracts.closeness import assert_earned, assert_near, wave
from tests.contracts.op_contract import OpContract
from tests.ops.catalogue_cases import ITEMS, HalfPrecision, excluded_for, small_tiles, tables_for

BACKENDS = backends_of("catalogue_divergence")


def teacher_for(users, scale=1.0):
    tables = wave(users.shape[0], 5, 0.7), 3 * wave(ITEMS, 5, 0.3)
    return tuple(t.bfloat16().to(users.device, users.dtype) * scale for t in tables)  # exact in every dtype


def divergence(log_p, log_q, kind):
    """Sum the definition over a row's allowed items."""
    total = []
    for a, b in zip(log_p, log_q, strict=True):
        p, q = math.exp(a), math.exp(b)
        log_m = max(a, b) + math.log1p(math.exp(-abs(a - b))) - math.log(2)
        total.append(
            {
                "cross_entropy": -q * a,
                "forward_kl": q * (b - a),
                "reverse_kl": p * (a - b),
                "jensen_shannon": (p * (a - log_m) + q * (b - log_m)) / 2,
            }[kind]
        )
    return math.fsum(total)


def log_softmax(scores):
    top = max(scores)
    total = top + math.log(math.fsum(math.exp(s - top) for s in scores))
    return [s - total for s in scores]


class DivergenceContract(HalfPrecision, OpContract):
    op = "catalogue_divergence"
    kind: str
    largest_term = 50.0**2  # a difference of scores times a vector

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        return tables_for(rows, scale)

    def call(self, inputs, backend="auto"):
        teacher = teacher_for(inputs[0])
        return catalogue_divergence(
            tuple(inputs), teacher, kind=self.kind, temperature=1.7, exclude=excluded_for(inputs[0]), backend=backend
        )

    def by_hand(self, inputs):
        users, items = inputs
        their_users, their_items = teacher_for(users)
        values = []
        for u, t, out in zip(users, their_users, excluded_for(users).tolist(), strict=True):
            allowed = [i for i in range(ITEMS) if i not in out]
            ours, theirs = ([float(x @ y[i]) / 1.7 for i in allowed] for x, y in ((u, items), (t, their_items)))
            values.append(divergence(log_softmax(ours), log_softmax(theirs), self.kind))
        return torch.tensor(values, dtype=torch.float64)

    @pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
    def test_native_strays_no_further_than_plain_torch(self, scale, native):
        inputs = [t.float() for t in self.inputs(rows=33, scale=scale)]
        truth, true_gradients = self.run(inputs, "reference", torch.float64)
        plain, plain_gradients = self.run(inputs, "reference", torch.float32)
        found, gradients = self.run(inputs, native, torch.float32)
        assert_earned(found, plain, truth)
        # A score rounded by eps |s|, before or after it is divided by the temperature, moves its probability as much.
        largest = float((inputs[0] @ inputs[1].T).abs().max()) / 1.7
        for g, p, t in zip(gradients, plain_gradients, true_gradients, strict=True):
            vectors = max(float(x.abs().max()) for x in inputs)
            assert_earned(g, p, t, hair=4.0 + 4.0 * largest, largest=largest * vectors)

    def native_calls(self):
        forward = torch.ops.fastkd.catalogue_divergence.default
        backward = torch.ops.fastkd.catalogue_divergence_backward.default
        users, items = (t.float() for t in self.inputs(rows=3))
        teacher, stats = teacher_for(users), torch.ones(6, 3)
        leaves = users.clone().requires_grad_(), items.clone().requires_grad_()
        tail = (None, None, stats, self.kind, 1.0)
        return [
            (forward, (*leaves, *teacher, None, None, self.kind, 0.5, "numba")),
            (backward, (stats[0], users, items.bfloat16(), *teacher, *tail, True, True, "numba")),
            (backward, (stats[0], users, items, *teacher, *tail, False, True, "numba")),
        ]


class TestReverse(DivergenceContract):
    kind = "reverse_kl"


@pytest.fixture
def _tiles(monkeypatch):
    small_tiles(monkeypatch)


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_its_definition_with_its_gradient(kind, scale, backend):
    case = DivergenceContract()
    case.kind = kind
    inputs = case.inputs(rows=5, scale=scale)
    truth, gradients = case.run(inputs, "reference", torch.float64)
    assert_near(truth, case.by_hand(inputs))
    found = case.run(inputs, backend, torch.float64)
    assert_near(found[0], truth)
    for a, b in zip(found[1], gradients, strict=True):
        assert_near(a, b, scale=scale**2)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_models_that_agree(kind, backend):
    tables = [t.to(device_of(backend)).float().requires_grad_() for t in tables_for(4, 100.0)]
    loss = catalogue_divergence(tuple(tables), tuple(t.detach() for t in tables), kind=kind, backend=backend)
    gradients = torch.autograd.grad(loss.sum(), tables)
    if kind != "cross_entropy":
        assert_near(loss, torch.zeros_like(loss), hair=4, scale=(tables[0] @ tables[1].T).abs().max().item())
    assert max(g.abs().max() for g in gradients) < 0.05


@pytest.mark.parametrize("backend", BACKENDS)
def test_bounds_far_past_the_range_of_exp(backend):
    device = device_of(backend)
    users, ours, theirs = (torch.tensor(x, device=device) for x in ([[1.0]], [[1e4], [0.0]], [[0.0], [1e4]]))
    found = {k: catalogue_divergence((users, ours), (users, theirs), kind=k, backend=backend).item() for k in KINDS}
    assert found["jensen_shannon"] == pytest.approx(math.log(2), rel=2 * torch.finfo(torch.float32).eps)
    assert found["reverse_kl"] == found["forward_kl"] == found["cross_entropy"] == 1e4


def test_the_sparse_loss_with_every_item_listed_is_the_cross_entropy():
    student, teacher = tables_for(3, 1.0), teacher_for(torch.zeros(3, 1, dtype=torch.float64))
    probs = (teacher[0] @ teacher[1].T).softmax(1)
    ids = torch.arange(ITEMS).expand(3, -1)
    listed = catalogue_softmax(*student, ids, probs)
    assert_near(catalogue_divergence(student, teacher, kind="cross_entropy"), listed)


def test_bad_arguments_are_named():
    users, items = torch.zeros(2, 3), torch.zeros(5, 3)
    with pytest.raises(ValueError, match=r"unknown kind 'forward'.*forward_kl"):
        catalogue_divergence((users, items), (users, items), kind="forward")
    with pytest.raises(TypeError, match=r"teacher must be a pair \(users, items\), got Tensor"):
        catalogue_divergence((users, items), users)
    with pytest.raises(ValueError, match="same items, got 5 and 4"):
        catalogue_divergence((users, items), (users, items[:4]))
    with pytest.raises(ValueError, match="teacher items are constants"):
        catalogue_divergence((users, items), (users, items.clone().requires_grad_()))
    with pytest.raises(ValueError, match=r"teacher users and teacher items .* width D"):
        catalogue_divergence((users, items), (users[:, :2], items))
