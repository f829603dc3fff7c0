from __future__ import annotations

import math

import pytest
import torch

from fastkd.ops import catalogue_softmax, sampled_softmax
from tests.contracts.backends import backends_of, device_of
from tests.contracts.closeness import assert_near
from tests.ops.catalogue_cases import ITEMS, tables_for

BACKENDS = backends_of("gather_dot")

TARGETS = torch.tensor([[4, 9, 4], [7, -1, -1], [-1, -1, -1]])
NEGATIVES = torch.tensor([[1, 2, 9, 2], [0, -1, 7, 3], [1, 2, 3, 4]])
PROBS = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)


def by_hand(users, items, log_q):
    values = []
    for b, u in enumerate(users):
        score = [float(u @ v) / 2 for v in items]
        wanted = [(i, p) for i, p in zip(TARGETS[b].tolist(), PROBS[b].tolist(), strict=True) if i >= 0]
        listed = {i for i, _ in wanted}
        drawn = [(i, w) for i, w in zip(NEGATIVES[b].tolist(), log_q[b].tolist(), strict=True) if i >= 0]
        terms = [score[i] for i in listed] + [score[i] - w for i, w in drawn if i not in listed]
        total = math.log(math.fsum(math.exp(t) for t in terms))
        values.append(math.fsum(p * (total - score[i]) for i, p in wanted))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_value_is_the_formula(backend):
    users, items = (t.to(device_of(backend)).requires_grad_() for t in tables_for(3, 1.0))
    log_q = torch.linspace(-2, 1, 12, dtype=torch.float64).view(3, 4)
    given = [t.to(users.device) for t in (TARGETS, NEGATIVES, PROBS, log_q)]
    loss = sampled_softmax(
        users, items, *given[:2], target_probs=given[2], log_q=given[3], temperature=2, backend=backend
    )
    assert_near(loss.cpu(), by_hand(users.detach().cpu(), items.detach().cpu(), log_q))
    loss.sum().backward()
    assert users.grad.isfinite().all()
    assert items.grad.isfinite().all()
    assert not users.grad[2].any()


def test_gradient():
    leaves = [t.requires_grad_() for t in tables_for(3, 1.0)]
    call = lambda u, v: sampled_softmax(u, v, TARGETS, NEGATIVES, target_probs=PROBS, backend="numba")  # noqa: E731
    assert torch.autograd.gradcheck(call, leaves)


def test_every_other_item_drawn_once_is_the_whole_catalogue():
    users, items = tables_for(3, 1e4)
    ids, probs = torch.tensor([[3, 3], [5, -1], [1, 2]]), torch.tensor([[0.5, 0.5], [1, 0], [0.25, 0.75]])
    negatives = torch.arange(ITEMS).expand(3, -1)
    found = sampled_softmax(users, items, ids, negatives, target_probs=probs, log_q=torch.zeros(negatives.shape))
    assert_near(found, catalogue_softmax(users, items, ids, probs))


def test_log_q_makes_the_denominator_unbiased():
    users, items = tables_for(2000, 0.5)
    users[:] = users[0]
    weights = torch.rand(ITEMS, generator=torch.Generator().manual_seed(1)) + 0.2
    weights[4] = 0
    q = weights / weights.sum()
    drawn = torch.multinomial(q.expand(2000, -1), 20, replacement=True, generator=torch.Generator().manual_seed(2))
    targets = torch.full((2000, 1), 4)
    loss = sampled_softmax(users, items, targets, drawn, log_q=(20 * q).log()[drawn])
    own = users[0] @ items[4]
    estimates = (loss + own).exp()
    truth = (users[0] @ items.T).exp().sum()
    assert abs(estimates.mean() - truth) < 5 * estimates.std() / 2000**0.5


def test_compiles_without_a_graph_break():
    torch.compiler.reset()
    leaves = [t.requires_grad_() for t in tables_for(3, 1.0)]
    compiled = torch.compile(sampled_softmax, fullgraph=True, backend="aot_eager")
    found, expected = (f(*leaves, TARGETS, NEGATIVES) for f in (compiled, sampled_softmax))
    assert_near(found, expected)


def test_bad_arguments_are_named():
    users, items = tables_for(3, 1.0)
    with pytest.raises(ValueError, match="row 0 sum to 3, expected"):
        sampled_softmax(users, items, TARGETS, NEGATIVES, target_probs=torch.ones(3, 3))
    with pytest.raises(ValueError, match="K >= 1"):
        sampled_softmax(users, items, TARGETS[:, :0], NEGATIVES)
    with pytest.raises(ValueError, match="log_q must be shaped like negative_ids"):
        sampled_softmax(users, items, TARGETS, NEGATIVES, log_q=torch.zeros(3, 1))
    with pytest.raises(ValueError, match="ids holds 42, outside"):
        sampled_softmax(users, items, TARGETS, NEGATIVES + ITEMS - 4)
