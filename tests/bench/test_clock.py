"""Clock and memory: turns are taken, quantiles are those of the times, a peak is what a call held."""

import sys

import pytest
import torch

from fastkd.bench import clock
from fastkd.bench.clock import Timed, in_turns, job, peak, summary


def test_contenders_take_turns_and_inputs_rotate(monkeypatch):
    monkeypatch.setattr(clock, "SETTLE", 0.0)
    monkeypatch.setattr(clock, "SHORT", 0.0)
    seen = []
    work = {who: [Timed(lambda _, w=who, i=i: seen.append((w, i))) for i in range(3)] for who in ("ours", "peer")}
    times = in_turns(work, "cpu", 0.0)
    assert times["ours"].rounds == clock.FEWEST
    turns = seen[4:]
    assert [who for who, _ in turns] == ["ours", "peer"] * clock.FEWEST
    assert [i for who, i in turns if who == "ours"] == [0, 1, 2, 0, 1]


def test_the_setup_is_not_timed():
    import time

    work = Timed(lambda made: made, setup=lambda: time.sleep(0.05))
    assert clock.once(work, "cpu") < 0.02


def test_quantiles():
    times = summary([float(i) for i in range(11)], 42.0)
    assert (times.p20, times.p50, times.p80, times.rounds, times.first) == (2.0, 5.0, 8.0, 11, 42.0)
    assert summary([3.0], 1.0).p80 == 3.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_peak_is_what_the_call_held_at_most():
    def hold(size):
        return lambda _: [torch.full((size << 18,), 1.5).sum()]  # size MiB of float32

    big, small = (peak(Timed(hold(size)), "cpu") for size in (64, 16))
    if big is None:
        pytest.skip("this system cannot set the mark back")
    assert 60 << 20 < big < 80 << 20
    assert small < 32 << 20


def test_a_job_is_run_once_before_it_is_timed():
    calls = []
    times, _ = job(Timed(lambda _: calls.append(1)), "cpu", 2)
    assert len(calls) == 3
    assert times.rounds == 2
