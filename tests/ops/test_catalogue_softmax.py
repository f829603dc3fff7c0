from __future__ import annotations

import math
import resource

import pytest
import torch

from fastkd.core.interactions import Interactions
from fastkd.ops import catalogue_logsumexp, catalogue_softmax
from tests.contracts.backends import backends_of, device_of
from tests.contracts.closeness import assert_near
from tests.contracts.op_contract import OpContract, run_fresh
from tests.ops.catalogue_cases import ITEMS, HalfPrecision, tables_for

BACKENDS = backends_of("catalogue_softmax")
OUT = [1, 8, 30]


def targets_for(users):
    """Ids [B, 4] with padding and repeats, none in OUT, and probabilities that sum to 0.9."""
    rows = users.shape[0]
    ids = (torch.arange(rows * 4, device=users.device).view(rows, 4) * 7919) % ITEMS
    ids = torch.where((ids % 7 == 1) | (ids == 30), -1, ids)
    ids[:, 0] = 5
    ids[::3, 1] = 5
    probs = torch.where(ids >= 0, 1.0 + ids % 3, 0.0).double()
    return ids, 0.9 * probs / probs.sum(1, keepdim=True)


class TestContract(HalfPrecision, OpContract):
    op = "catalogue_softmax"

    def inputs(self, *, rows=7, scale=1.0, padded=True):
        return tables_for(rows, scale)

    def call(self, inputs, backend="auto"):
        ids, probs = targets_for(inputs[0])
        exclude = torch.tensor(OUT, device=ids.device).expand(len(ids), -1)
        return catalogue_softmax(*inputs, ids, probs, temperature=1.7, exclude=exclude, tail_mass=0.1, backend=backend)

    def by_hand(self, inputs):
        users, items = inputs
        values = []
        for u, ids, probs in zip(users, *(t.tolist() for t in targets_for(users)), strict=True):
            scores = {i: float(u @ v) / 1.7 for i, v in enumerate(items) if i not in OUT}
            top = max(scores.values())
            total = top + math.log(math.fsum(math.exp(s - top) for s in scores.values()))
            rest = [i for i in scores if i not in ids]
            entries = [(i, p) for i, p in zip(ids, probs, strict=True) if i >= 0] + [(i, 0.1 / len(rest)) for i in rest]
            values.append(math.fsum(p * (total - scores[i]) for i, p in entries))
        return torch.tensor(values, dtype=torch.float64)

    def native_calls(self):
        forward = torch.ops.fastkd.catalogue_softmax.default
        backward = torch.ops.fastkd.catalogue_softmax_backward.default
        users, items = (t.float() for t in self.inputs(rows=3))
        (ids, probs), ones = targets_for(users), torch.ones(3)
        leaves = users.clone().requires_grad_(), items.clone().requires_grad_()
        return [
            (forward, (*leaves, ids, probs, None, None, None, None, 0.5, False, "numba")),
            (forward, (users, items, ids.int(), probs, ones, None, None, None, 0.5, True, "numba")),
            (backward, (ones, users, items.bfloat16(), ids, probs, ones, None, None, None, ones, ones, 1.0, "numba")),
        ]


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_hard_label_is_torchs_cross_entropy(backend):
    users, items = (t.to(device_of(backend)).requires_grad_() for t in tables_for(9, 3.0))
    labels = torch.arange(9, device=users.device) * 4 % ITEMS
    found = catalogue_softmax(users, items, labels[:, None], torch.ones(9, 1, device=users.device), backend=backend)
    expected = torch.nn.functional.cross_entropy(users @ items.T, labels, reduction="none")
    assert_near(found, expected)
    for a, b in zip(*(torch.autograd.grad(v.sum(), (users, items)) for v in (found, expected)), strict=True):
        assert_near(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_padding_has_no_loss_and_no_gradient(backend):
    users, items = (t.to(device_of(backend)).requires_grad_() for t in tables_for(2, 1.0))
    ids = torch.tensor([[-1, -1], [4, -1]], device=users.device)
    probs = torch.tensor([[0.3, 0.2], [0.8, 7.0]], device=users.device)
    loss = catalogue_softmax(users, items, ids, probs, tail_mass=0.2, backend=backend)
    loss.sum().backward()
    assert loss[0] == 0
    assert loss[1] > 0
    assert users.grad.any(1).tolist() == [False, True]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_of_padding_over_an_excluded_catalogue_has_no_loss(backend):
    users, items = (t.to(device_of(backend)).requires_grad_() for t in tables_for(1, 1.0))
    ids, probs = torch.tensor([[-1]], device=users.device), torch.ones(1, 1, device=users.device)
    everything = torch.arange(ITEMS, device=users.device).unsqueeze(0)
    loss = catalogue_softmax(users, items, ids, probs, exclude=everything, tail_mass=0.2, backend=backend)
    loss.sum().backward()
    assert loss.tolist() == [0]
    assert not users.grad.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_popular_target_gets_every_users_part(backend):
    users, items = (t.to(device_of(backend)).requires_grad_() for t in tables_for(50, 1.0))
    ids, probs = torch.full((50, 1), 3, device=users.device), torch.ones(50, 1, device=users.device)
    loss = catalogue_softmax(users, items, ids, probs, backend=backend)
    lse = catalogue_logsumexp(users, items, backend=backend)
    found, base = (torch.autograd.grad(v.sum(), items)[0] for v in (loss, lse))
    expected = torch.zeros_like(items)
    expected[3] = users.detach().sum(0)
    assert_near(base - found, expected)


def test_unchecked_sums_are_taken_as_they_are():
    users, items = tables_for(3, 1.0)
    ids, probs = torch.tensor([[0, 2], [1, 1], [3, -1]]), torch.tensor([[0.5, 1.5], [0.1, 0.1], [0.0, 9.0]])
    found, expected = (
        catalogue_softmax(users, items, ids, probs, exclude=torch.tensor([[2]] * 3), validate=False, backend=b)
        for b in ("numba", "reference")
    )
    assert_near(found, expected)


def test_exclusion_by_interactions_with_a_tail():
    users, items = tables_for(2, 1.0)
    ids, probs = torch.tensor([[0, 2], [1, 5]]), torch.full((2, 2), 0.4)
    interactions = Interactions.from_pairs([0, 0, 1], [7, 9, 0], num_users=2, num_items=ITEMS)
    padded = torch.tensor([[9, 7, 9], [-1, 0, -1]])
    found, expected = (
        catalogue_softmax(users, items, ids, probs, exclude=e, tail_mass=0.2) for e in (interactions, padded)
    )
    assert_near(found, expected)


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9")
def test_float32_tables_are_multiplied_as_torch_would_whichever_way_it_was_told():
    launch = pytest.importorskip("fastkd.kernels.triton._catalogue_launch")
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for precision in ("ieee", "tf32"):
            matmul.fp32_precision = precision
            assert launch.fp32_precision() == precision
    finally:
        matmul.fp32_precision = before


def test_bad_arguments_are_named():
    users, items = torch.zeros(2, 3), torch.zeros(5, 3)
    ids, probs = torch.tensor([[0, 1], [2, -1]]), torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    with pytest.raises(ValueError, match=r"row 1 sum to 0.5, expected 1 - tail_mass = 1"):
        catalogue_softmax(users, items, ids, probs * torch.tensor([[1.0], [0.5]]))
    with pytest.raises(ValueError, match=r"row 0 sum to 1, expected 1 - tail_mass = 0.75"):
        catalogue_softmax(users, items, ids, probs, tail_mass=0.25)
    with pytest.raises(ValueError, match=r"target_probs\[0, 1\] is -0.5, not in \[0, 1\]"):
        catalogue_softmax(users, items, ids, torch.tensor([[0.5, -0.5], [1, 0]]))
    with pytest.raises(ValueError, match=r"target_probs\[1, 0\] is nan"):
        catalogue_softmax(users, items, ids, torch.tensor([[0.5, 0.5], [torch.nan, 0]]))
    with pytest.raises(ValueError, match=r"target_ids\[1, 0\] is item 2, which is excluded"):
        catalogue_softmax(users, items, ids, probs, exclude=torch.tensor([[-1], [2]]))
    with pytest.raises(ValueError, match=r"target_ids holds 5, outside \[0, 5\)"):
        catalogue_softmax(users, items, ids + 3, probs)
    with pytest.raises(ValueError, match=r"K >= 1"):
        catalogue_softmax(users, items, ids[:, :0], probs[:, :0])
    with pytest.raises(ValueError, match=r"tail_mass must be in \[0, 1\), got 1"):
        catalogue_softmax(users, items, ids, probs, tail_mass=1)
    with pytest.raises(ValueError, match="nowhere to go"):
        catalogue_softmax(users, items[:2], ids.clamp(max=1), probs * 0.9, tail_mass=0.1)
    with pytest.raises(ValueError, match="target_probs is a constant"):
        catalogue_softmax(users, items, ids, probs.requires_grad_())


MEMORY = """
import resource, torch
from fastkd.ops import catalogue_softmax
torch.set_num_threads(1)
def run(count, rows=256, width=32):
    users, items = torch.randn(rows, width).requires_grad_(), torch.randn(count, width).requires_grad_()
    ids, probs = torch.randint(0, count, (rows, 20)), torch.full((rows, 20), 0.05)
    catalogue_softmax(users, items, ids, probs, backend="numba").sum().backward()
run(2000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(400_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_matrix_of_users_by_items():
    assert resource.getpagesize() > 0  # kilobytes below: Linux
    tables = 2 * 400_000 * 32 * 4 / 1024  # the items and their gradient, KiB
    assert int(run_fresh(MEMORY)) < tables + 100 * 1024  # 256 x 400k scores would be 400,000 KiB


@pytest.mark.gpu
def test_no_matrix_of_users_by_items_on_the_gpu():
    users = torch.randn(1024, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    items = torch.randn(1_000_000, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    ids, probs = torch.randint(0, 1_000_000, (1024, 50), device="cuda"), torch.full((1024, 50), 0.02, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        catalogue_softmax(users, items, ids, probs, validate=False, backend="triton").sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - before < 2 * items.numel() * 2 + (128 << 20)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_others_lists_are_the_lists(backend):
    users, items = (t.float().to(device_of(backend)).requires_grad_() for t in tables_for(3, 1.0))
    lists = Interactions.from_pairs([0, 0, 1, 3], [1, 4, 2, 0], num_users=4, num_items=len(items))
    rows = torch.tensor([3, 1, 3], device=users.device)
    ids, probs = torch.tensor([[5, 7], [1, -1], [3, 2]]), torch.tensor([[0.4, 0.5], [0.9, 0.0], [0.2, 0.7]])
    target = ids.to(users.device), probs.to(users.device)
    found = []
    for exclude in (lists.rows(rows.cpu().numpy()), (lists, rows)):
        loss = catalogue_softmax(users, items, *target, exclude=exclude, tail_mass=0.1, backend=backend)
        found.append((loss, *torch.autograd.grad(loss.square().sum(), (users, items))))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"target_ids\[1, 0\] is item 2, which is excluded"):
        catalogue_softmax(users, items, target[0].clamp(min=2), target[1], exclude=(lists, rows), tail_mass=0.1)
