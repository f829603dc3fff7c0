import numpy as np
import pytest
from tiny_run import ITEMS, FakeMethod, tiny_config, tiny_data

from fastkd.core import DataError
from fastkd.sampling import NegativeSampler
from fastkd.training.negatives import EpochNegatives


class Own(FakeMethod):
    def __init__(self, given):
        super().__init__()
        self.given = given

    def negatives(self, epoch):
        return self.given.get(epoch)


def test_the_epochs_are_those_of_the_sampler_also_when_one_is_skipped():
    data, config = tiny_data(), tiny_config(epochs=5)
    sampler = NegativeSampler(data.train, seed=config.seed)
    with EpochNegatives(data.train, None, config) as negatives:
        for epoch in (1, 2, 4, 4):
            assert np.array_equal(negatives.of(epoch), sampler.sample_epoch(2, epoch=epoch))


def test_a_methods_own_negatives_come_first():
    data, config = tiny_data(), tiny_config(epochs=4)
    own = np.full((data.train.nnz, 1), 7)
    with EpochNegatives(data.train, Own({1: own}), config) as negatives:
        assert negatives.of(0).shape == (data.train.nnz, 2)
        assert negatives.of(1) is own
        assert np.array_equal(negatives.of(2), NegativeSampler(data.train, seed=3).sample_epoch(2, epoch=2))


@pytest.mark.parametrize("bad", [ITEMS, -2])
def test_own_negatives_out_of_range_are_named(bad):
    data = tiny_data()
    own = np.full((data.train.nnz, 1), -1)
    own[5] = bad
    with (
        EpochNegatives(data.train, Own({0: own}), tiny_config()) as negatives,
        pytest.raises(DataError, match=rf"method 'fake' gave negative {bad} for epoch 0, outside \[-1, {ITEMS}\)"),
    ):
        negatives.of(0)


def test_nothing_past_the_last_epoch_is_drawn_and_the_thread_ends(monkeypatch):
    drawn = []
    real = NegativeSampler.sample_epoch

    def note(self, n, *, epoch):
        drawn.append(epoch)
        return real(self, n, epoch=epoch)

    monkeypatch.setattr(NegativeSampler, "sample_epoch", note)
    with EpochNegatives(tiny_data().train, None, tiny_config(epochs=2)) as negatives:
        negatives.of(0)
        negatives.of(1)
    assert drawn == [0, 1]
