"""What every loss from vectors refuses and promises, beside what the test of each op says."""

from __future__ import annotations

import pytest
import torch

from fastkd import ops
from tests.contracts.closeness import assert_near

N, ROWS = 12, 3
IDS = torch.tensor([[0, 4, 11], [2, -1, 2], [7, 8, 9]])
MORE = torch.tensor([[5, 1], [6, 3], [0, 10]])
PROBS = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.0, 0.5], [0.2, 0.3, 0.5]])


CASES = {
    "gather_dot": lambda u, v, ids, **o: ops.gather_dot(u, v, ids, **o).nan_to_num(neginf=0.0).square().sum(1),
    "relaxed_ranking": lambda u, v, ids, **o: ops.relaxed_ranking_from_embeddings(u, v, ids, MORE, **o),
    "listnet": lambda u, v, ids, **o: ops.listnet_from_embeddings(u, v, ids, 3 * PROBS, **o),
    "pairwise": lambda u, v, ids, **o: ops.pairwise_from_embeddings(u, v, IDS[:, 0].to(ids.dtype), ids, **o),
    "weighted_bce": lambda u, v, ids, **o: ops.weighted_bce_from_embeddings(u, v, ids, PROBS, **o),
    "soft_bce": lambda u, v, ids, **o: ops.soft_bce_from_embeddings(u, v, ids, 3 * PROBS, **o),
    "lambda_pairs": lambda u, v, ids, **o: ops.lambda_pairs_from_embeddings(u, v, ids, weights="uniform", **o),
    "sampled_softmax": lambda u, v, ids, **o: ops.sampled_softmax(u, v, ids, MORE, target_probs=PROBS, **o),
    "catalogue_softmax": lambda u, v, ids, **o: ops.catalogue_softmax(u, v, ids, PROBS, **o),
    "catalogue_logsumexp": lambda u, v, ids, **o: ops.catalogue_logsumexp(u, v, ids, **o),
}


def tables(dtype=torch.float32):
    random = torch.Generator().manual_seed(3)
    return [torch.randn(n, 4, generator=random, dtype=torch.float64).to(dtype) for n in (ROWS, N)]


@pytest.mark.parametrize("name", CASES)
def test_ids_out_of_range_are_named_unless_nobody_looks(name):
    wrong = IDS.clone()
    wrong[1, 0] = N + 30
    with pytest.raises(ValueError, match=rf"holds {N + 30}, outside \[0, {N}\)"):
        CASES[name](*tables(), wrong)
    loss = CASES[name](*tables(), wrong, validate=False, backend="numba")
    right = CASES[name](*tables(), IDS, backend="numba")
    assert torch.equal(loss[[0, 2]], right[[0, 2]])  # a wrong id spoils its own row at most


@pytest.mark.parametrize("name", CASES)
def test_another_device_or_dtype_is_named(name):
    users, items = tables()
    for bad in ((users.to("meta"), items), (users, items.to("meta"))):
        with pytest.raises(ValueError, match=r"same device, got (cpu and meta|meta and cpu)"):
            CASES[name](*bad, IDS)
    with pytest.raises(ValueError, match=r"same device, got cpu and meta"):
        CASES[name](users, items, IDS.to("meta"))
    with pytest.raises(TypeError, match=r"users must be Float\[B D\], got torch.int64"):
        CASES[name](users.long(), items, IDS)
    with pytest.raises(TypeError, match=r"must be .*got torch\.(float32|int16)"):
        CASES[name](users, items, IDS.to(torch.int16))


@pytest.mark.parametrize("name", CASES)
def test_a_second_derivative_is_right_or_refused(name):
    call, leaves = CASES[name], [t.requires_grad_() for t in tables(torch.float64)]
    native = torch.autograd.grad(call(*leaves, IDS, backend="numba").sum(), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*backend='reference'"):
        sum(g.square().sum() for g in native).backward()
    full = IDS.clamp(min=0)
    assert torch.autograd.gradgradcheck(lambda u, v: call(u, v, full, backend="reference"), leaves, fast_mode=True)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("name", CASES)
def test_autocast(name, backend):
    users, items = (t.requires_grad_() for t in tables())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = torch.nn.functional.linear(users, torch.eye(4))
        assert mixed.dtype == torch.bfloat16
        loss = CASES[name](mixed, items, IDS, backend=backend)
    assert loss.dtype == torch.float32
    expected = CASES[name](mixed.detach().float(), items.detach(), IDS, backend=backend)
    if backend == "numba":
        assert torch.equal(loss, expected)
    else:  # there torch multiplies, under autocast: it rounds the items and the scores to bfloat16
        assert_near(loss, expected, hair=2 * torch.finfo(torch.bfloat16).eps / torch.finfo(torch.float32).eps)
    loss.sum().backward()
    assert users.grad.dtype == items.grad.dtype == torch.float32
    assert users.grad.any()
    assert items.grad.any()


@pytest.mark.parametrize("name", ["sampled_softmax", "catalogue_softmax"])
def test_probabilities_must_sum_to_one_and_lists_hold_something(name):
    call = {
        "sampled_softmax": lambda ids, p, **o: ops.sampled_softmax(*tables(), ids, MORE, target_probs=p, **o),
        "catalogue_softmax": lambda ids, p, **o: ops.catalogue_softmax(*tables(), ids, p, **o),
    }[name]
    wrong = PROBS * torch.tensor([[1.0], [1.0], [1.2]])
    with pytest.raises(ValueError, match=r"row 2 sum to 1\.2, expected"):
        call(IDS, wrong)
    assert call(IDS, wrong, validate=False).isfinite().all()
    with pytest.raises(ValueError, match=r"target_probs\[0, 1\] is nan"):
        call(IDS, PROBS.masked_fill(PROBS == 0.25, torch.nan))
    with pytest.raises(ValueError, match=r"K >= 1"):
        call(IDS[:, :0], PROBS[:, :0])
