from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastkd import Interactions
from fastkd.models import encoded
from fastkd.models.encoded import EncodedTables, History
from tests.contracts.interactions import random_interactions


@settings(deadline=None, max_examples=30)
@given(pairs=st.sets(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=30), data=st.data())
def test_sums_and_their_gradient_are_those_of_a_loop(pairs, data):
    ordered = sorted(pairs)
    train = Interactions.from_pairs([u for u, _ in ordered], [i for _, i in ordered], num_users=6, num_items=8)
    users = torch.tensor(data.draw(st.lists(st.integers(0, 5), max_size=9)), dtype=torch.int64)
    random = torch.Generator().manual_seed(len(ordered))
    table = torch.randn(8, 3, generator=random, dtype=torch.float64).requires_grad_(True)
    history, upstream = History(train), torch.randn(len(users), 3, generator=random, dtype=torch.float64)
    matrix = np.zeros((len(users), 8))
    for row, user in enumerate(users.tolist()):
        for item in train.row(user):
            matrix[row, item] = 1
    found = history.sums(users, table)
    np.testing.assert_allclose(found.detach(), matrix @ table.detach().numpy(), atol=1e-12)
    (grad,) = torch.autograd.grad(found, table, upstream)
    np.testing.assert_allclose(grad, matrix.T @ upstream.numpy(), atol=1e-12)
    assert history.lengths(users).tolist() == matrix.sum(1).tolist()


def test_dropped_items_weigh_nothing_and_the_kept_ones_more():
    train = random_interactions(5, 40, 20)
    history = History(train)
    torch.manual_seed(0)
    kept = history.sums(torch.zeros(400, dtype=torch.int64), torch.eye(40), keep=0.25)
    assert set(kept.unique().tolist()) == {0.0, 4.0}
    # 8000 draws of 1/4: the standard error of the share is 0.005.
    assert (kept > 0).sum().item() / 8000 == pytest.approx(0.25, abs=0.02)
    assert (kept[:, [i for i in range(40) if i not in train.row(0)]] == 0).all()


def test_state_is_empty_and_ids_stay_narrow():
    history = History(random_interactions())
    assert not history.state_dict()
    assert history.items.dtype == torch.int32


@pytest.mark.gpu
def test_a_gpu_pads_to_the_longest_and_does_not_wait():
    random = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in random.integers(0, 50, (400, 2))})
    train = Interactions.from_pairs([u for u, _ in pairs], [i for _, i in pairs], num_users=50, num_items=50)
    users, table = torch.arange(50), torch.randn(50, 8)
    wanted = History(train).sums(users, table)
    history, there, ids = History(train).cuda(), table.cuda(), users.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = history.sums(ids, there)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(found.cpu(), wanted)


def test_only_the_users_asked_for_are_made(monkeypatch):
    monkeypatch.setattr(encoded, "BLOCK", 4)
    asked, values = [], torch.randn(11, 3)

    def encode(users):
        asked.append(users.tolist())
        return values[users]

    tables = EncodedTables(encode, 11, torch.randn(5, 3))
    assert torch.equal(tables.user_vectors(torch.tensor([7, 2])), values[[7, 2]])
    assert asked == [[7, 2]]
    assert (tables.num_users, tables.num_items) == (11, 5)
    lazy = tables.detach()
    assert len(asked) == 1
    assert torch.equal(lazy.user_vectors(torch.tensor([1])), values[[1]])
    assert not lazy.user_vectors(torch.tensor([1])).requires_grad
    del asked[1:]
    frozen = tables.frozen()
    assert torch.equal(frozen.users, values)
    assert asked[1:] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert torch.equal(frozen.user_vectors(torch.tensor([3])), values[[3]])
    assert len(asked) == 4
