import numpy as np
import pytest
import torch

from fastkd.core import DataError, Interactions, Seeds
from fastkd.data import Batch, batches, num_batches

TRAIN = Interactions.from_pairs([0, 0, 1, 2, 2, 2, 4], [3, 5, 1, 0, 2, 4, 5], num_users=5, num_items=6)
NEGATIVES = np.arange(14, dtype=np.int32).reshape(7, 2)


def run(epoch=0, start=0, size=3, seed=0, negatives=NEGATIVES):
    return list(batches(TRAIN, negatives=negatives, batch_size=size, seeds=Seeds(seed), epoch=epoch, start_step=start))


def test_every_interaction_comes_once_with_its_own_negatives():
    steps = run()
    assert [len(b) for b in steps] == [3, 3, 1]
    entries = torch.cat([b.entries for b in steps])
    assert sorted(entries.tolist()) == list(range(7))
    assert (torch.cat([b.users for b in steps]).numpy() == TRAIN.entry_users()[entries]).all()
    assert (torch.cat([b.positives for b in steps]).numpy() == TRAIN.indices[entries]).all()
    assert (torch.cat([b.negatives for b in steps]).numpy() == NEGATIVES[entries]).all()
    for field in ("entries", "users", "positives", "negatives"):
        assert getattr(steps[0], field).dtype == torch.int64


def test_order_is_a_function_of_seed_and_epoch_only():
    def order(**kw):
        return torch.cat([b.entries for b in run(**kw)]).tolist()

    assert order() == order(size=2) == order(negatives=torch.from_numpy(NEGATIVES))
    assert order() != order(epoch=1)
    assert order() != order(seed=1)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_start_step_resumes_where_it_stopped(start):
    for ours, theirs in zip(run(start=start), run()[start:], strict=True):
        assert torch.equal(ours.entries, theirs.entries)
        assert torch.equal(ours.negatives, theirs.negatives)


def test_bad_arguments_are_refused_at_the_call():
    common = {"batch_size": 3, "seeds": Seeds(0), "epoch": 0}
    with pytest.raises(DataError, match=r"\[7, n\].*\(6, 2\)"):
        batches(TRAIN, negatives=NEGATIVES[:6], **common)
    with pytest.raises(DataError, match="float64"):
        batches(TRAIN, negatives=NEGATIVES.astype(float), **common)
    with pytest.raises(DataError, match=r"start_step must be in \[0, 3\], got 4"):
        batches(TRAIN, negatives=NEGATIVES, **common, start_step=4)
    with pytest.raises(DataError, match="batch_size must be at least 1, got 0"):
        batches(TRAIN, negatives=NEGATIVES, batch_size=0, seeds=Seeds(0), epoch=0)
    with pytest.raises(DataError, match="epoch"):
        batches(TRAIN, negatives=NEGATIVES, batch_size=1, seeds=Seeds(0), epoch=-1)


def test_no_interactions_no_batches():
    empty = Interactions.empty(2, 2)
    assert num_batches(empty, 4) == 0
    assert list(batches(empty, negatives=np.zeros((0, 1), dtype=np.int64), batch_size=4, seeds=Seeds(0), epoch=0)) == []


def test_batch_moves_between_devices():
    moved = run()[0].to("cpu")
    assert isinstance(moved, Batch)
    assert torch.equal(moved.users, run()[0].users)


@pytest.mark.parametrize(("users", "runs"), [([4, 4, 1, 1, 1, 7], 3), ([4, 1, 4], 3), ([2], 1), ([], 0)])
def test_stretches_of_a_user_are_counted_before_rows_leave_the_cpu(users, runs):
    ids = torch.tensor(users, dtype=torch.int64)
    batch = Batch(ids, ids, ids, ids.unsqueeze(1))
    assert batch.to("cpu").runs is None
    assert batch.to("meta").runs == batch.to("meta").to("meta").runs == runs


def test_by_user_keeps_the_rows_of_a_user_together_and_loses_none():
    train = Interactions.from_csr(np.arange(0, 241, 6), np.tile(np.arange(6), 40), 9)
    options = {"negatives": np.arange(240)[:, None] % 9, "batch_size": 32, "seeds": Seeds(1)}

    def made(epoch, **more):
        return list(batches(train, epoch=epoch, by_user=True, **options, **more))

    users, entries = (torch.cat([getattr(b, name) for b in made(0)]) for name in ("users", "entries"))
    order = torch.unique_consecutive(users)
    assert len(order) == 40
    assert order.tolist() != sorted(order.tolist())
    assert sorted(entries.tolist()) == list(range(240))
    assert entries.tolist() != sorted(entries.tolist(), key=lambda e: (order.tolist().index(e // 6), e))
    for batch in made(0):
        assert torch.equal(batch.negatives[:, 0], batch.entries % 9)
    assert torch.cat([b.users for b in made(1)]).tolist() != users.tolist()
    assert torch.equal(torch.cat([b.entries for b in made(0, start_step=3)]), entries[96:])
