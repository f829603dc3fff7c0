import threading
import time

import numpy as np
import pytest

from fastkd.core import ConfigError, Interactions
from fastkd.sampling import EpochPrefetcher, NegativeSampler


def test_epochs_come_in_order_and_equal_direct_draws():
    sampler = NegativeSampler(Interactions.from_pairs([0, 1, 1], [2, 0, 5], num_items=9), seed=3)
    with EpochPrefetcher(lambda epoch: sampler.sample_epoch(4, epoch=epoch), start=2, stop=6) as epochs:
        drawn = dict(epochs)
    assert list(drawn) == [2, 3, 4, 5]
    for epoch, negatives in drawn.items():
        np.testing.assert_array_equal(negatives, sampler.sample_epoch(4, epoch=epoch))


def test_the_next_epoch_is_drawn_while_this_one_is_used():
    begun = {epoch: threading.Event() for epoch in range(3)}

    def draw(epoch):
        begun[epoch].set()
        return epoch, threading.current_thread().name

    with EpochPrefetcher(draw, stop=3) as epochs:
        value, thread = epochs.get(0)
        assert value == 0
        assert thread.startswith("fastkd-epoch")
        assert begun[1].wait(20)
        assert not begun[2].is_set()


def test_nothing_is_drawn_past_stop():
    asked = []
    with EpochPrefetcher(asked.append, stop=2) as epochs:
        list(epochs)
    assert asked == [0, 1]


def test_an_exception_surfaces_at_its_epoch_and_the_next_one_still_works():
    def draw(epoch):
        if epoch == 1:
            raise ValueError("epoch 1 is broken")
        return epoch

    with EpochPrefetcher(draw, stop=3) as epochs:
        assert epochs.get(0) == 0
        with pytest.raises(ValueError, match="epoch 1 is broken"):
            epochs.get(1)
        assert epochs.get(2) == 2


def test_any_epoch_may_be_asked_for():
    with EpochPrefetcher(lambda epoch: epoch, stop=9) as epochs:
        assert [epochs.get(e) for e in (4, 4, 0, 8, 5)] == [4, 4, 0, 8, 5]


def test_close_waits_for_the_draw_and_leaves_no_thread():
    finished = threading.Event()

    def draw(epoch):
        time.sleep(0.05)
        finished.set()

    with pytest.raises(RuntimeError, match="training failed"), EpochPrefetcher(draw, stop=5):
        raise RuntimeError("training failed")
    assert not [t for t in threading.enumerate() if t.name.startswith("fastkd-epoch")]
    epochs = EpochPrefetcher(lambda epoch: epoch, stop=5)
    epochs.close()
    epochs.close()
    with pytest.raises(RuntimeError, match="epoch 1 was asked of a closed"):
        epochs.get(1)


def test_bad_epochs_are_refused_by_value():
    with pytest.raises(ConfigError, match="start=3, stop=2"):
        EpochPrefetcher(lambda epoch: epoch, start=3, stop=2)
    with EpochPrefetcher(lambda epoch: epoch, start=1, stop=1) as epochs:
        assert list(epochs) == []
        with pytest.raises(ConfigError, match=r"epoch 1 is out of range \[1, 1\)"):
            epochs.get(1)
