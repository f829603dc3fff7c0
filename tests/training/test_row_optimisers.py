from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastkd.training.row_optimisers import RowAdagrad, RowAdam, RowSGD
from tests.contracts.closeness import assert_near

PAIRS = [
    (RowSGD, torch.optim.SGD, {"lr": 0.1}, {}),
    (RowSGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.1}, {}),
    (RowAdagrad, torch.optim.Adagrad, {"lr": 0.1}, {}),
    (RowAdagrad, torch.optim.Adagrad, {"lr": 0.1, "weight_decay": 0.1}, {}),
    (RowAdam, torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95)}, {}),
    (RowAdam, torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.1}, {}),
    (RowAdam, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}, {"decoupled": True}),
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def listed(rows, seed, items=12):
    """A gradient of an Embedding(sparse=True): rows repeat and are in no order."""
    return torch.sparse_coo_tensor(rows[None], normal(len(rows), 3, seed=seed), (items, 3), check_invariants=True)


@pytest.mark.parametrize(("ours", "theirs", "options", "more"), PAIRS)
@pytest.mark.parametrize("dense", [True, False])
def test_agrees_with_the_dense_optimiser_where_every_row_is_touched(ours, theirs, options, more, dense):
    a, b = normal(12, 3).requires_grad_(), normal(12, 3).requires_grad_()
    plain, rowwise = theirs([a], **options), ours([b], **options, **more)
    for s in range(8):
        rows = torch.randperm(12, generator=torch.Generator().manual_seed(s)).repeat(2)
        gradient = listed(rows, s)
        a.grad, b.grad = gradient.to_dense(), gradient.to_dense() if dense else gradient
        plain.step()
        rowwise.step()
    assert_near(b, a, hair=64)  # eight steps of eight roundings


def test_a_row_goes_the_way_of_dense_adam_on_its_own_gradients():
    table = normal(12, 3).requires_grad_()
    start, optimizer, seen = table.detach().clone(), RowAdam([table], lr=0.1), {}
    for s in range(20):
        rows = torch.randint(0, 12, (4,), generator=torch.Generator().manual_seed(s))
        table.grad = listed(rows, s)
        for row, gradient in enumerate(table.grad.to_dense()):
            if row in rows:
                seen.setdefault(row, []).append(gradient)
        optimizer.step()
    for row, gradients in seen.items():
        alone = start[row].clone().requires_grad_()
        adam = torch.optim.Adam([alone], lr=0.1)
        for gradient in gradients:
            alone.grad = gradient
            adam.step()
        assert_near(table[row], alone, hair=160)  # twenty steps of eight roundings
    untouched = [row for row in range(12) if row not in seen]
    assert torch.equal(table[untouched], start[untouched])


def test_torch_sparse_adam_shrinks_the_first_step_of_a_rare_row_and_ours_does_not():
    a, b = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    global_count, own_count = (
        torch.optim.SparseAdam([a], lr=0.1, betas=(0.9, 0.9)),
        RowAdam([b], lr=0.1, betas=(0.9, 0.9)),
    )
    for s in range(100):
        rows = torch.tensor([[0]]) if s < 99 else torch.tensor([[1]])
        for p, optimizer in ((a, global_count), (b, own_count)):
            p.grad = torch.sparse_coo_tensor(rows, torch.ones(1, 3), (2, 3), check_invariants=True)
            optimizer.step()
    assert_near(b[1], torch.full((3,), -0.1), hair=4)
    # A global count of 100 takes the row's moments for converged ones: about 0.1 / sqrt(0.1) of a full step.
    moment = 0.1 / (1 - 0.9**100)
    assert_near(a[1], torch.full((3,), -0.1 * moment / moment**0.5), hair=16)


@pytest.mark.parametrize(
    ("ours", "options"), [(o, {**a, **m}) for o, _, a, m in PAIRS] + [(RowAdagrad, {"rowwise": True})]
)
def test_in_backward_is_the_same_update(ours, options):
    def run(in_backward):
        torch.manual_seed(0)
        table, weight = nn.Embedding(12, 3, sparse=True), nn.Linear(3, 1)
        optimizer = ours([*table.parameters(), *weight.parameters()], **options, in_backward=in_backward)
        for s in range(5):
            ids = torch.randint(0, 12, (7,), generator=torch.Generator().manual_seed(s))
            loss = weight(table(ids)).square().sum() + table(ids[:3]).sum()
            loss.backward()
            if in_backward:
                assert all(p.grad is None for p in (*table.parameters(), *weight.parameters()))
            optimizer.step()
            optimizer.zero_grad()
        return [*table.parameters(), *weight.parameters()]

    for a, b in zip(run(False), run(True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("ours", "options"), [(RowAdam, {}), (RowAdagrad, {"rowwise": True}), (RowSGD, {})])
def test_state_is_saved_and_resumed_bit_for_bit(ours, options):
    def steps(table, optimizer, start, stop):
        for s in range(start, stop):
            table.grad = listed(torch.randint(0, 12, (5,), generator=torch.Generator().manual_seed(s)), s)
            optimizer.step()

    whole = normal(12, 3).requires_grad_()
    optimizer = ours([whole], lr=0.1, **options)
    steps(whole, optimizer, 0, 10)
    part = normal(12, 3).requires_grad_()
    optimizer = ours([part], lr=0.1, **options)
    steps(part, optimizer, 0, 4)
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = part.detach().clone().requires_grad_()
    optimizer = ours([resumed], lr=0.1, **options)
    optimizer.load_state_dict(saved)
    steps(resumed, optimizer, 4, 10)
    assert torch.equal(resumed, whole)
    for state in optimizer.state.values():
        assert "step" not in state or state["step"].dtype == torch.int32


def test_what_it_cannot_take_is_named():
    table = torch.zeros(4, 3, requires_grad=True)
    with pytest.raises(ValueError, match=r"lr must be at least 0, got -1\.0"):
        RowSGD([table], lr=-1.0)
    optimizer = RowSGD([table], lr=1.0)
    table.grad = torch.ones(4, 3).to_sparse(2)
    with pytest.raises(TypeError, match=r"list rows of a table.*2 dimensions"):
        optimizer.step()
