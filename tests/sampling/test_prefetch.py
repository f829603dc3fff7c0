import itertools
import os
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


def test_without_a_stop_it_goes_on():
    with EpochPrefetcher(lambda epoch: -epoch, start=2, stop=None) as epochs:
        assert list(itertools.islice(epochs, 4)) == [(2, -2), (3, -3), (4, -4), (5, -5)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_draw_draws_for_itself():
    begun, go_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def draw(epoch):
        if os.getpid() == parent:
            begun.set()
            assert go_on.wait(60)
        return epoch * 10

    epochs = EpochPrefetcher(draw, start=4, stop=9)
    assert begun.wait(20)
    child = os.fork()
    if child == 0:  # the parent's thread, and what it holds, do not exist here
        status = 1
        try:
            right = [epochs.get(4), epochs.get(5)] == [40, 50]
            epochs.close()
            status = 0 if right else 2
        finally:
            os._exit(status)
    limit = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < limit:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    go_on.set()
    assert epochs.get(4) == 40
    epochs.close()
    assert ended == (child, 0), "the child waited for a thread it does not have"


def test_an_exception_carries_the_frames_of_the_draw():
    def deep_inside(epoch):
        raise ValueError(f"epoch {epoch}")

    with EpochPrefetcher(lambda epoch: deep_inside(epoch), stop=1) as epochs:
        with pytest.raises(ValueError, match="epoch 0") as caught:
            epochs.get(0)
        assert [entry.name for entry in caught.traceback][-1] == "deep_inside"
