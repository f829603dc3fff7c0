import gc
import itertools
import json
import threading
import traceback

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from fastkd.core import ConfigError, DataError, Interactions, Seeds
from fastkd.sampling import NegativeSampler
from fastkd.sampling.distributions import Hard, Mixed, Popularity, Stratified
from fastkd.sampling.epochs import EpochProducer, Epochs

TABLE = Interactions.from_pairs([0, 0, 1, 2, 2, 2, 4], [3, 5, 1, 0, 2, 4, 5], num_users=6, num_items=7)
FIELDS = ("entries", "users", "positives", "negatives")


def sampler(table=TABLE, backend="auto", **options):
    return NegativeSampler(table, seed=3, backend=backend, **options)


def epochs(table=TABLE, n=2, batch_size=3, backend="auto", **options):
    return Epochs(EpochProducer(sampler(table, backend), n), batch_size=batch_size, **options)


def listed(batches):
    return [(b.epoch, *(getattr(b, f).tolist() for f in FIELDS)) for b in batches]


def _flat(users, items):
    return np.zeros(items.shape, dtype=np.float32)


def no_threads():
    return not [t for t in threading.enumerate() if t.name.startswith("fastkd-epoch")]


@pytest.mark.parametrize("backend", ["native", "numba", "reference"])
def test_an_epoch_is_numpys_permutation_with_the_samplers_own_negatives(backend):
    ours = sampler(backend=backend)
    for epoch in (0, 5):
        drawn = EpochProducer(ours, 3).draw(epoch)
        order = Seeds(3).numpy("shuffle", epoch).permutation(TABLE.nnz)
        assert np.array_equal(drawn.entries, order)
        assert np.array_equal(drawn.users, TABLE.entry_users()[order])
        assert np.array_equal(drawn.positives, TABLE.indices[order])
        assert np.array_equal(drawn.negatives, ours.sample_epoch(3, epoch=epoch)[order])
        assert {getattr(drawn, f).dtype for f in FIELDS} == {torch.int64}


@settings(deadline=None, max_examples=60)
@given(
    degrees=st.lists(st.integers(0, 9), max_size=300),
    n=st.integers(0, 5),
    seed=st.integers(0, 2**63 - 1),
    threads=st.sampled_from([1, 2, 7]),
    wide=st.booleans(),
)
def test_the_native_epoch_equals_plain_numpy(degrees, n, seed, threads, wide):
    indptr = np.concatenate([[0], np.cumsum(degrees, dtype=np.int64)]).astype(np.int64)
    indices = np.concatenate([np.zeros(0, dtype=np.int32), *(np.arange(d, dtype=np.int32) * 2 for d in degrees)])
    table = Interactions(indptr, indices.astype(np.int64 if wide else np.int32), 25)
    native = EpochProducer(NegativeSampler(table, seed=seed, num_threads=threads, backend="native"), n).draw(1)
    plain = EpochProducer(NegativeSampler(table, seed=seed, backend="numba"), n).draw(1)
    for field in FIELDS:
        assert torch.equal(getattr(native, field), getattr(plain, field)), field


def test_threads_do_not_enter_where_they_are_used():
    table = Interactions.from_pairs(np.repeat(np.arange(3000), 20), np.tile(np.arange(20), 3000), num_items=500)
    one, *more = (EpochProducer(NegativeSampler(table, num_threads=t), 2).draw(4) for t in (1, 2, 7))
    for other in more:
        assert all(torch.equal(getattr(one, f), getattr(other, f)) for f in FIELDS)


def test_every_order_of_few_is_equally_likely():
    table = Interactions.from_pairs([0, 1, 2, 3], [0, 1, 2, 3])
    producer = EpochProducer(sampler(table), 0)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for epoch in range(4800):
        counts[tuple(producer.draw(epoch).entries.tolist())] += 1
    statistic = sum((c - 200) ** 2 / 200 for c in counts.values())
    assert statistic < 49.7, "chi-square with 23 degrees of freedom, p = 0.001"


DISTRIBUTIONS = [
    "uniform",
    "popularity",
    "mixed",
    "stratified",
    Hard((np.eye(6, dtype=np.float32), np.ones((7, 6), dtype=np.float32)), 4),
]


@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: getattr(d, "name", d))
def test_every_distribution_of_the_sampler_is_laid_out(distribution):
    ours = sampler(distribution=distribution, exclude=np.full((6, 1), 6))
    order = Seeds(3).numpy("shuffle", 2).permutation(TABLE.nnz)
    drawn = EpochProducer(ours, 4).draw(2)
    assert np.array_equal(drawn.negatives, ours.sample_epoch(4, epoch=2)[order])
    assert not TABLE.contains(drawn.users.repeat_interleave(4).numpy(), drawn.negatives.reshape(-1).numpy()).any()
    assert not (drawn.negatives == 6).any()


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [3, 3, 1]), (True, [3, 3])])
def test_batches_are_cut_from_successive_epochs(drop_last, sizes):
    got = list(epochs(start=1, stop=3, drop_last=drop_last))
    assert [len(b) for b in got] == sizes * 2
    assert [b.epoch for b in got] == [1] * len(sizes) + [2] * len(sizes)
    whole = EpochProducer(sampler(), 2).draw(2)
    for field in FIELDS:
        joined = torch.cat([getattr(b, field) for b in got if b.epoch == 2])
        assert torch.equal(joined, getattr(whole, field)[: len(joined)])


def test_the_sampler_hands_out_its_epochs():
    with sampler().epochs(batch_size=4, n=1) as endless:
        got = list(itertools.islice(endless, 5))
    assert listed(got) == listed(itertools.islice(epochs(n=1, batch_size=4), 5))
    assert [b.epoch for b in got] == [0, 0, 1, 1, 2]


def test_edge_shapes():
    assert [len(b) for b in epochs(batch_size=100, stop=1)] == [7]
    assert list(epochs(batch_size=100, drop_last=True)) == [], "no batch in any epoch: an end, not a loop"
    assert list(epochs(table=Interactions.empty(2, 2))) == []
    assert list(epochs(stop=0)) == []
    assert [tuple(b.negatives.shape) for b in epochs(n=0, stop=1)] == [(3, 0), (3, 0), (1, 0)]


def test_a_kept_batch_does_not_change_when_later_epochs_are_drawn():
    with epochs() as running:
        kept = list(itertools.islice(running, 3))
        before = listed(kept)
        list(itertools.islice(running, 30))
        assert listed(kept) == before


@pytest.mark.parametrize("at", range(8))
def test_a_loaded_position_goes_on_bit_for_bit(at):
    whole = listed(epochs(stop=3))
    first = epochs(stop=3)
    for _ in range(at):
        next(first)
    state = first.state_dict()
    first.close()
    second = epochs(stop=3)
    next(second)  # loading also undoes what was handed out
    second.load_state_dict(state)
    assert listed(second) == whole[at:]


def test_a_position_of_other_data_or_options_is_refused():
    state = epochs().state_dict()
    other = Interactions.from_pairs([0, 1], [0, 1], num_items=7)
    with pytest.raises(ConfigError, match="n=2, these epochs have 4"):
        epochs(n=4).load_state_dict(state)
    with pytest.raises(ConfigError, match="batch_size=3, these epochs have 5"):
        epochs(batch_size=5).load_state_dict(state)
    with pytest.raises(ConfigError, match="distribution='uniform', these epochs have 'popularity'"):
        sampler(distribution="popularity").epochs(3, 2).load_state_dict(state)
    with pytest.raises(ConfigError, match="excluded="):
        sampler(exclude=np.full((6, 1), 4)).epochs(3, 2).load_state_dict(state)
    with pytest.raises(ConfigError, match="interactions="):
        epochs(table=other).load_state_dict(state)
    with pytest.raises(ConfigError, match="has no 'seed'"):
        epochs().load_state_dict({k: v for k, v in state.items() if k != "seed"})
    with pytest.raises(DataError, match=r"batch must be in \[0, 3\], got 9"):
        epochs().load_state_dict(state | {"batch": 9})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Mixed(share=0.1), Mixed(share=0.9)),
        (Popularity(0.5), Popularity(0.75)),
        (Stratified(2), Stratified(2, (0.9, 0.1))),
        (Stratified(np.array([0, 1, 0, 1, 0, 1, 0])), Stratified(np.array([1, 0, 0, 1, 0, 1, 0]))),
        (Hard(_flat, 4), Hard(_flat, 8)),
    ],
)
def test_a_position_under_another_law_is_refused(one, other):
    state = sampler(distribution=one).epochs(3, 2).state_dict()
    sampler(distribution=one).epochs(3, 2).load_state_dict(json.loads(json.dumps(state)))
    with pytest.raises(ConfigError, match="options="):
        sampler(distribution=other).epochs(3, 2).load_state_dict(state)


def test_no_thread_is_left_however_it_ends():
    def fail_in_the_middle(running):
        with running:
            next(running)
            raise KeyError("the consumer failed")

    running = epochs()
    with pytest.raises(KeyError):
        fail_in_the_middle(running)
    assert no_threads()
    assert list(running) == [], "closed"
    for _ in zip(range(2), epochs(), strict=False):
        pass  # dropped in the middle
    gc.collect()
    for thread in threading.enumerate():
        if thread.name.startswith("fastkd-epoch"):
            thread.join(20)
    assert no_threads()


def test_an_exception_in_the_draw_surfaces_at_its_epoch_with_its_frames(monkeypatch):
    real = NegativeSampler.sample_epoch

    def broken_at_one(self, n, *, epoch, on_exhausted="raise"):
        if epoch == 1:
            raise OSError("epoch 1 is broken")
        return real(self, n, epoch=epoch, on_exhausted=on_exhausted)

    monkeypatch.setattr(NegativeSampler, "sample_epoch", broken_at_one)
    running = epochs()
    assert [next(running).epoch for _ in range(3)] == [0, 0, 0]
    for _ in range(2):  # asked again, it fails again, and the position stands
        with pytest.raises(OSError, match="epoch 1 is broken") as caught:
            next(running)
        frames = [frame.name for frame in traceback.extract_tb(caught.tb)]
        assert frames[-1] == "broken_at_one"
        assert running.state_dict()["epoch"] == 1
    running.close()
    assert no_threads()


def test_users_without_an_item_left_are_named_or_padded():
    full = Interactions.from_pairs([0, 0, 1], [0, 1, 0], num_items=2)
    with pytest.raises(DataError, match="user 0 has no item left"):
        next(epochs(table=full))
    padded = EpochProducer(sampler(full), 1, on_exhausted="pad").draw(0)
    assert torch.equal(padded.negatives[:, 0], torch.where(padded.users == 0, -1, 1))


def test_out_is_filled_in_place_or_refused():
    producer = EpochProducer(sampler(), 2)
    room = producer.allocate(dtype=torch.int32)
    drawn = producer.draw(1, room)
    assert drawn.negatives.data_ptr() == room.negatives.data_ptr()
    assert torch.equal(drawn.negatives.long(), producer.draw(1).negatives)
    with pytest.raises(DataError, match=r"out.negatives must have shape \[7, 2\], got \[7, 3\]"):
        producer.draw(1, EpochProducer(sampler(), 3).allocate())
    with pytest.raises(TypeError, match=r"out.entries must be a contiguous int64 or int32 tensor.*float32"):
        producer.draw(1, producer.allocate(dtype=torch.float32))
    with pytest.raises(DataError, match="batch_size must be in"):
        epochs(batch_size=0)
    with pytest.raises(ConfigError, match="start=3, stop=1"):
        epochs(start=3, stop=1)


class Shared(IterableDataset):
    """Batches of an iterator that the parent began, in the worker's own process."""

    def __init__(self, running):
        self.running = running

    def __iter__(self):
        return ((b.epoch, b.entries, b.negatives) for b in self.running)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_workers_draw_for_themselves():
    table = Interactions.from_pairs(np.repeat(np.arange(400), 50), np.tile(np.arange(50), 400), num_items=90)
    want = [(e, d.entries, d.negatives) for e in range(2) for d in [EpochProducer(sampler(table), 2).draw(e)]]
    running = epochs(table=table, batch_size=20_000, stop=2)
    state = running.state_dict()
    next(running)
    running.load_state_dict(state)
    loader = DataLoader(Shared(running), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
    got = sorted(((int(e), a, b) for e, a, b in loader), key=lambda row: row[0])
    assert [row[0] for row in got] == [0, 0, 1, 1], "each worker hands out both epochs"
    for epoch, entries, negatives in got:
        assert torch.equal(entries, want[epoch][1])
        assert torch.equal(negatives, want[epoch][2])
    running.close()
