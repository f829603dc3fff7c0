from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd.ops import prototype_distance, topology_distance
from fastkd.ops import topology_distance as function
from tests.contracts.closeness import wave


def vectors(n: int, narrow: int = 3, wide: int = 5, *, seed: int = 0, dtype=torch.float64):
    random = torch.Generator().manual_seed(seed)
    student = torch.randn(n, narrow, generator=random, dtype=dtype).requires_grad_(True)
    groups = torch.randint(3, (n,), generator=random)
    weights = torch.rand(n, generator=random, dtype=dtype).round(decimals=1)
    return student, torch.randn(n, wide, generator=random, dtype=dtype), groups, weights


def cosine(a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / lengths) if lengths > 0 else 0.0


def by_hand(student, teacher, weights=None, groups=None, positive_only=False):
    s, t = student.detach().double().numpy(), teacher.double().numpy()
    loss = pairs = 0.0
    for i in range(len(s)):
        for j in range(len(s)):
            wanted = cosine(t[i], t[j])
            w = 1.0 if weights is None else float(weights[i] * weights[j])
            if (groups is not None and groups[i] != groups[j]) or (positive_only and wanted <= 0):
                w = 0.0
            loss += w * (wanted - cosine(s[i], s[j])) ** 2
            pairs += w
    return loss, pairs


def test_golden_value():
    student, teacher = wave(5, 3, 0.37), wave(5, 4, 0.9)
    for backend in ("auto", "reference"):
        found = topology_distance(student, teacher, backend=backend)
        assert found.loss.item() == pytest.approx(18.726752731161938, rel=1e-13)
        assert found.pairs.item() == 25


@pytest.mark.parametrize("form", ["positive", "small groups"])
def test_second_derivatives_are_refused_where_cosines_are_made(form):
    student, teacher, groups, _ = vectors(6)
    options = {"positive_only": True} if form == "positive" else {"groups": groups}
    loss = topology_distance(student, teacher, **options).loss
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        gradient.square().sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backend='reference'"):
        torch.autograd.grad(gradient.square().sum(), student, allow_unused=True)
    loss = topology_distance(student, teacher, backend="reference", **options).loss
    torch.autograd.grad(loss, student, create_graph=True)[0].square().sum().backward()
    assert student.grad.abs().sum() > 0


def test_weights_that_want_a_gradient_are_refused():
    student, teacher, groups, weights = vectors(6)
    weights.requires_grad_(True)
    for options in ({}, {"positive_only": True}, {"groups": groups}):
        with pytest.raises(ValueError, match=r"weights\.detach\(\)"):
            topology_distance(student, teacher, weights=weights, **options)
    topology_distance(student, teacher, weights=weights, backend="reference").loss.backward()
    assert weights.grad.abs().sum() > 0


def test_groups_have_any_names():
    student, teacher, groups, _ = vectors(30)
    wanted = topology_distance(student, teacher, groups=groups).loss
    for names in ([-1, 5, 10**12], [7, -9, 0]):
        named = torch.tensor(names)[groups]
        torch.testing.assert_close(topology_distance(student, teacher, groups=named).loss, wanted)


@pytest.mark.parametrize("options", [{}, {"positive_only": True}])
def test_unlike_dtypes_are_widened(options):
    student, teacher, _, _ = vectors(30)
    wanted = topology_distance(student, teacher, **options).loss
    for backend in ("auto", "reference"):
        found = topology_distance(student.float(), teacher, backend=backend, **options).loss
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, check_dtype=False)
    half = [x.detach().repeat(70, 1).half() for x in (student, teacher)]
    found = [topology_distance(*half, backend=backend, **options).loss for backend in ("auto", "reference")]
    torch.testing.assert_close(*found, rtol=1e-3, atol=1.0)


@pytest.mark.parametrize("seed", range(6))
def test_a_student_near_its_teacher_keeps_the_gradient(seed):
    # The Gram form's value is then all rounding, and below 0 in half of the cases; its gradient is not.
    random = torch.Generator().manual_seed(seed)
    teacher = torch.randn(400, 8, generator=random)
    student = (teacher + 1e-5 * torch.randn(400, 8, generator=random)).requires_grad_(True)
    found = topology_distance(student, teacher).loss
    assert found.item() >= 0
    found.backward()
    exact = student.detach().double().requires_grad_(True)
    topology_distance(exact, teacher.double(), backend="reference").loss.backward()
    difference = (student.grad - exact.grad).norm() / exact.grad.norm()
    assert difference < 0.1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("positive_only", [False, True])
@pytest.mark.parametrize("n", [1, 4, 30])
def test_every_form_is_the_sum_over_pairs(n, grouped, positive_only, weighted):
    student, teacher, groups, weights = vectors(n)
    options = {"groups": groups if grouped else None, "weights": weights if weighted else None}
    wanted = by_hand(student, teacher, positive_only=positive_only, **options)
    for backend in ("auto", "reference"):
        found = topology_distance(student, teacher, positive_only=positive_only, backend=backend, **options)
        assert (found.loss.item(), found.pairs.item()) == pytest.approx(wanted, rel=1e-10, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(0, 40), seed=st.integers(0, 99), grouped=st.booleans(), positive_only=st.booleans(),
    rows=st.sampled_from([7, 1024]),
)  # fmt: skip
def test_gradients_are_those_of_the_definition(n, seed, grouped, positive_only, rows):
    student, teacher, groups, weights = vectors(n, seed=seed)
    options = {"groups": groups if grouped else None, "weights": weights, "positive_only": positive_only}
    gradients = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_ROWS", "_BLOCK"):
            patch.setattr(import_module("fastkd.ops.topology_distance"), name, rows)
        for backend in ("auto", "reference"):
            loss = topology_distance(student, teacher, backend=backend, **options).loss
            gradients.append(torch.autograd.grad(2.5 * loss, student)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("groups", [None, 2])
def test_blocks_of_many_rows_in_float32(groups):
    # More rows than two blocks, products large enough for ours.
    n, random = 1301, torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(n, width, generator=random) for width in (8, 24))
    weights = torch.rand(n, generator=random)
    member = None if groups is None else torch.randint(groups, (n,), generator=random)
    found, wanted = [], []
    for into, dtype, backend in ((found, torch.float32, "auto"), (wanted, torch.float64, "reference")):
        leaf = student.to(dtype).requires_grad_()
        made = topology_distance(
            leaf, teacher.to(dtype), weights=weights.to(dtype), groups=member, positive_only=True, backend=backend
        )
        into += [made.loss, made.pairs, torch.autograd.grad(made.loss, leaf)[0]]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2e-4, atol=2e-3)


def test_tiles_of_all_rows_are_the_groups(monkeypatch):
    # What other devices than the CPU do: no group is cut out, other groups' pairs are masked.
    from fastkd.ops.topology_distance import _tiles, _unit

    student, teacher, groups, weights = vectors(33)
    wanted = topology_distance(student, teacher, groups=groups, weights=weights)
    found = _tiles(_unit(student), _unit(teacher), weights, groups, False)
    torch.testing.assert_close(found, tuple(wanted))
    for a, b in zip(*(torch.autograd.grad(x.loss, student) for x in (found, wanted)), strict=True):
        torch.testing.assert_close(a, b)


def test_no_matrix_of_all_pairs_is_made():
    n = 30_000
    random = torch.Generator().manual_seed(0)
    student = torch.randn(n, 4, generator=random).requires_grad_(True)
    teacher = torch.randn(n, 6, generator=random)
    # A matrix of all pairs would hold 3.6 GB.
    with torch.profiler.profile(profile_memory=True) as profile:
        topology_distance(student, teacher).loss.backward()
        topology_distance(student, teacher, groups=torch.arange(n) % 200, positive_only=True).loss.backward()
    assert max(event.cpu_memory_usage for event in profile.key_averages()) < 400e6


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e4])
def test_lengths_do_not_matter_and_nothing_overflows(scale):
    student, teacher, groups, _ = vectors(12, dtype=torch.float32)
    with torch.no_grad():
        student *= scale
    for options in ({}, {"groups": groups}, {"groups": groups, "positive_only": True}):
        loss = topology_distance(student, teacher, **options).loss
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_float32_of_many_rows_is_near_the_truth():
    student, teacher, groups, _ = vectors(3000, 8, 16)
    exact = [topology_distance(student, teacher, groups=g) for g in (None, groups)]
    for wanted, g in zip(exact, (None, groups), strict=True):
        single = student.detach().float().requires_grad_(True)
        found = topology_distance(single, teacher.float(), groups=g)
        assert found.loss.item() == pytest.approx(wanted.loss.item(), rel=1e-5)
        a = torch.autograd.grad(found.loss, single)[0]
        b = torch.autograd.grad(wanted.loss, student)[0]
        assert ((a - b).norm() / b.norm()).item() < 1e-5


@pytest.mark.parametrize("exclude_own", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_prototypes_by_hand(exclude_own, weighted):
    student, teacher, groups, weights = vectors(14)
    w = weights if weighted else torch.ones(14, dtype=torch.float64)
    found = prototype_distance(
        student, teacher, groups=groups, count=5, weights=w if weighted else None, exclude_own=exclude_own
    )
    loss = pairs = 0.0
    for k in range(5):
        members = groups == k
        if w[members].sum() == 0:
            continue
        means = [
            ((w[members, None] * x.detach()[members]).sum(0) / w[members].sum()).numpy() for x in (student, teacher)
        ]
        for j in range(14):
            m = 0.0 if exclude_own and groups[j] == k else float(w[j])
            gap = cosine(means[1], teacher[j].numpy()) - cosine(means[0], student.detach()[j].numpy())
            loss, pairs = loss + m * gap**2, pairs + m
    assert (found.loss.item(), found.pairs.item()) == pytest.approx((loss, pairs), rel=1e-10)


@pytest.mark.parametrize("flows", [False, True])
def test_gradient_of_prototypes(flows):
    student, teacher, groups, _ = vectors(8)
    start = student.detach().clone()

    def loss(x: torch.Tensor) -> torch.Tensor:
        # With constant prototypes the derivative is that of the entities' side alone.
        if flows:
            return prototype_distance(x, teacher, groups=groups, count=3, prototype_gradient=True).loss
        held = torch.nn.functional.one_hot(groups, 3).double()
        means = torch.nn.functional.normalize((held.T @ start) / held.sum(0).clamp(min=1e-12)[:, None])
        wanted = torch.nn.functional.normalize((held.T @ teacher) / held.sum(0).clamp(min=1e-12)[:, None])
        gap = wanted @ torch.nn.functional.normalize(teacher).T - means @ torch.nn.functional.normalize(x).T
        return (gap.square() * (1 - held.T)).sum()

    found = torch.autograd.grad(
        prototype_distance(student, teacher, groups=groups, count=3, prototype_gradient=flows).loss, student
    )[0]
    for i, j in ((0, 0), (3, 1), (7, 2)):
        step = torch.zeros_like(start)
        step[i, j] = 1e-6
        slope = (loss(start + step) - loss(start - step)) / 2e-6
        assert found[i, j].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-6)


def test_shapes_that_do_not_fit_are_named():
    student, teacher, groups, weights = vectors(4)
    with pytest.raises(ValueError, match=r"expected student \[n, S\] and teacher \[n, T\], got \[\[4, 3\], \[3, 5\]\]"):
        function(student, teacher[:3])
    with pytest.raises(ValueError, match=r"weights must be \[4\].*got \[3\]"):
        function(student, teacher, weights=weights[:3])
    with pytest.raises(ValueError, match="count must be at least 1 group, got 0"):
        prototype_distance(student, teacher, groups=groups, count=0)
    with pytest.raises(ValueError, match="unknown backend 'numpy'"):
        function(student, teacher, backend="numpy")
