import numpy as np
import pytest
import torch

from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.evaluation.streaming import check_catalogue, chunk_rows, iter_ranks, iter_topk, tables_of
from fastkd.models.protocol import Tables


def whole_numbers(users, items, dim=5, seed=0):
    """Tables whose scores are exact in float32 and full of ties."""
    rng = np.random.default_rng(seed)
    return Tables(*(torch.from_numpy(rng.integers(-3, 4, (n, dim)).astype(np.float32)) for n in (users, items)))


def masks_of(users, items, seed):
    seen = np.random.default_rng(seed).random((users, items)) < 0.3
    return Interactions.from_pairs(*np.nonzero(seen), num_users=users, num_items=items)


def slow_topk(tables, user, k, seen):
    """Sort all items of one user: higher score first, then lower id; pad with -1."""
    scores = (tables.items.double() @ tables.users[user].double()).tolist()
    order = sorted((i for i in range(len(scores)) if i not in seen), key=lambda i: (-scores[i], i))[:k]
    return order + [-1] * (k - len(order)), [scores[i] for i in order] + [float("-inf")] * (k - len(order))


@pytest.mark.parametrize("k", [1, 7, 31])
def test_ranks_as_a_sort_does_with_two_masks(k):
    tables, first, second = whole_numbers(23, 31), masks_of(23, 31, 1), masks_of(23, 31, 2)
    users = np.array([4, 22, 0, 4], dtype=np.int64)
    for chunk, ids, scores in iter_topk(tables, users, k, masks=(first, second)):
        for row, user in enumerate(chunk):
            seen = set(first.row(user)) | set(second.row(user))
            wanted, values = slow_topk(tables, user, k, seen)
            assert ids[row].tolist() == wanted
            assert scores[row].tolist() == values


@pytest.mark.parametrize("size", [1, 3, 100])
def test_ranks_are_places_in_the_sorted_catalogue(monkeypatch, size):
    tables, first, second, targets = whole_numbers(23, 31), *(masks_of(23, 31, seed) for seed in (1, 2, 5))
    users = np.array([4, 22, 0, 4], dtype=np.int64)
    monkeypatch.setattr("fastkd.evaluation.streaming.chunk_rows", lambda *a, **k: size)
    seen_users = []
    for chunk, ranks in iter_ranks(tables, users, targets, masks=(first, second)):
        for row, user in enumerate(chunk):
            seen = set(first.row(user)) | set(second.row(user))
            order, _ = slow_topk(tables, user, 31, seen)
            wanted = [0 if item in seen else order.index(item) + 1 for item in targets.row(user)]
            assert ranks[row].tolist() == wanted + [0] * (ranks.shape[1] - len(wanted))
        seen_users += chunk.tolist()
    assert seen_users == users.tolist()


def test_the_chunks_cover_the_users_in_order_and_do_not_change_the_lists(monkeypatch):
    tables, seen = whole_numbers(37, 19), masks_of(37, 19, 3)
    users = np.random.default_rng(1).permutation(37)
    whole = list(iter_topk(tables, users, 6, masks=(seen,)))
    assert len(whole) == 1
    for size in (1, 5, 36):
        monkeypatch.setattr("fastkd.evaluation.streaming.chunk_rows", lambda *a, size=size, **k: size)
        parts = list(iter_topk(tables, users, 6, masks=(seen,)))
        assert len(parts) == -(-37 // size)
        assert np.concatenate([p[0] for p in parts]).tolist() == users.tolist()
        assert torch.equal(torch.cat([p[1] for p in parts]), whole[0][1])
        assert torch.equal(torch.cat([p[2] for p in parts]), whole[0][2])


def test_a_smaller_budget_means_smaller_chunks_and_never_none():
    tables = whole_numbers(10, 4000, dim=16)
    rows = [chunk_rows(tables, 20, memory_budget_mb=mb, backend="reference") for mb in (1, 8, 64)]
    assert rows == sorted(rows)
    assert rows[0] * 12 * 4000 <= 2**20
    assert rows[2] >= 7 * rows[1]
    huge = Tables(torch.zeros(1, 1), torch.zeros(1, 1).expand(10**9, 1))
    assert chunk_rows(huge, 10, memory_budget_mb=1, backend="reference") == 1


def test_longer_histories_mean_smaller_chunks():
    tables = whole_numbers(30, 500)
    dense = Interactions.from_csr(np.arange(31) * 500, np.tile(np.arange(500), 30), 500)
    assert chunk_rows(tables, 10, masks=(dense,), memory_budget_mb=16) < chunk_rows(tables, 10, memory_budget_mb=16)


def test_tables_come_out_detached_and_other_things_are_refused():
    tables = Tables(torch.zeros(2, 2, requires_grad=True), torch.zeros(3, 2, requires_grad=True))
    found = tables_of(tables)
    assert not found.users.requires_grad
    assert not found.items.requires_grad
    with pytest.raises(TypeError, match="cannot rank with a str"):
        tables_of("model")


def test_a_list_longer_than_the_catalogue_is_refused():
    check_catalogue(5, 5)
    with pytest.raises(ConfigError, match="K = 6 is larger than the catalogue of 5 items"):
        check_catalogue(6, 5)
