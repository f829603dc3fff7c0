from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.ops import listnet
from tests.contracts.backends import backends_of
from tests.contracts.closeness import assert_near, pad, wave
from tests.contracts.op_contract import OpContract

BACKENDS = backends_of("listnet")


def by_hand(scores, teacher, temperature=1.0):
    """Cross entropy of two softmaxes, entry by entry, with the largest score taken out of each."""
    out = []
    for s_row, t_row in zip(scores.tolist(), teacher.tolist(), strict=True):
        both = [(s, t) for s, t in zip(s_row, t_row, strict=True) if -math.inf not in (s, t)]
        if not both:
            out.append(0.0)
            continue
        s, t = ([x / temperature for x in side] for side in zip(*both, strict=True))
        mass = math.fsum(math.exp(x - max(t)) for x in t)
        log_z = max(s) + math.log(math.fsum(math.exp(x - max(s)) for x in s))
        out.append(math.fsum(math.exp(b - max(t)) / mass * (log_z - a) for a, b in zip(s, t, strict=True)))
    return torch.tensor(out, dtype=torch.float64)


class TestContract(OpContract):
    op = "listnet"
    temperature = 1.0

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        random = torch.Generator().manual_seed(rows)
        scores = scale * torch.randn(rows, 9, generator=random, dtype=torch.float64)
        return [pad(scores, 0) if padded else scores]

    def teacher(self, rows, device="cpu"):
        given = 2 * wave(rows, 9, 0.7)
        return given.masked_fill(given > 1.9, -torch.inf).to(device)

    def call(self, inputs, backend="auto"):
        teacher = self.teacher(inputs[0].shape[0], inputs[0].device)
        return listnet(inputs[0], teacher, temperature=self.temperature, backend=backend)

    def by_hand(self, inputs):
        return by_hand(inputs[0], self.teacher(len(inputs[0])), self.temperature)

    def native_calls(self):
        op = torch.ops.fastkd.listnet.default
        scores = self.inputs(rows=3)[0].float()
        teacher = self.teacher(3)
        return [(op, (scores.clone().requires_grad_(), teacher, 1.5, False, "numba")),
                (op, (scores, teacher.float(), 0.5, True, "numba"))]  # fmt: skip


class TestTemperature(TestContract):
    temperature = 0.3

    test_opcheck = test_calls_from_several_threads_at_once = test_autocast = test_no_rows = None
    test_backends_are_obeyed_or_refused = test_strides_do_not_matter = test_backward_twice_gives_the_same = None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_student_equal_to_its_teacher_has_no_gradient_and_the_entropy_as_loss(backend):
    scores = (3 * wave(4, 6, 0.9)).requires_grad_()
    loss = listnet(scores, scores.detach(), temperature=2.0, backend=backend)
    share = (scores.detach() / 2).softmax(1)
    assert_near(loss, -(share * share.log()).sum(1))
    loss.sum().backward()
    assert scores.grad.abs().max() < 1e-15


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_certain_teacher_is_the_ordinary_cross_entropy(backend):
    scores, label = 2 * wave(3, 5, 0.4), torch.tensor([1, 0, 4])
    teacher = torch.nn.functional.one_hot(label, 5).double() * 1e4
    found = listnet(scores, teacher, backend=backend)
    assert_near(found, torch.nn.functional.cross_entropy(scores, label, reduction="none"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("side", ["scores", "teacher", "both"])
def test_padding_is_as_if_it_were_not_there(backend, side):
    scores, teacher = wave(2, 5, 0.4), wave(2, 5, 0.9)
    nothing = torch.full((2, 3), -torch.inf)
    filler = 7 * torch.ones(2, 3)
    long = torch.cat([scores, filler if side == "teacher" else nothing], 1).requires_grad_()
    found = listnet(long, torch.cat([teacher, filler if side == "scores" else nothing], 1), backend=backend)
    assert_near(found, listnet(scores, teacher, backend=backend))
    found.sum().backward()
    assert not long.grad[:, 5:].any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [0, 3])
def test_rows_of_padding_are_zero(backend, width):
    scores = torch.full((2, width), -torch.inf, requires_grad=True)
    loss = listnet(scores, torch.zeros(2, width), backend=backend)
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert not scores.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_stays_in_its_row(backend):
    scores = wave(3, 4, 0.7)
    scores[1, 2] = torch.nan
    assert listnet(scores, wave(3, 4, 0.2), backend=backend).isnan().tolist() == [False, True, False]


@given(st.integers(1, 4), st.integers(1, 9), st.sampled_from([0.1, 1.0, 7.0]), st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_gradient_is_the_difference_of_the_two_softmaxes(rows, width, temperature, seed):
    random = torch.Generator().manual_seed(seed)
    scores, teacher = (torch.randn(rows, width, generator=random, dtype=torch.float64) for _ in range(2))
    scores.requires_grad_()
    listnet(scores, teacher, temperature=temperature, backend="numba").sum().backward()
    expected = ((scores.detach() / temperature).softmax(1) - (teacher / temperature).softmax(1)) / temperature
    assert_near(scores.grad, expected, scale=1 / temperature)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
def test_lists_longer_than_a_tile(backend):
    scores, teacher = wave(2, 2500, 0.4).requires_grad_(), wave(2, 2500, 0.9)
    found, expected = (listnet(scores, teacher, backend=b) for b in (backend, "reference"))
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(t.sum(), scores) for t in (found, expected)), strict=True):
        assert_near(a, b)


def test_bad_arguments_are_named():
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"teacher must be shaped like scores, \[2, 3\], got \[3, 2\]"):
        listnet(scores, scores.T)
    with pytest.raises(ValueError, match=r"teacher is a constant .* pass teacher.detach\(\)"):
        listnet(scores, torch.zeros(2, 3, requires_grad=True))
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"temperature must be a positive finite number, got {wrong}"):
            listnet(scores, scores, temperature=wrong)
