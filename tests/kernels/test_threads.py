"""Rows shared among threads: every part once, whoever the threads are and from wherever the call comes."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

from fastkd.kernels.numba import _catalogue_blocks, _openmp, _threads


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(_openmp, "_crowded", lambda: False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def who(parts: int) -> tuple[list[int], set[int]]:
    """Return the parts that ran and the threads that ran them."""
    seen, threads = [], set()

    def call(part: int) -> None:
        seen.append(part)
        threads.add(threading.get_ident())
        time.sleep(0.005)

    _threads.run_parts(call, parts)
    return sorted(seen), threads


@pytest.mark.parametrize("borrowed", [True, False])
def test_two_threads_take_turns(two_threads, monkeypatch, borrowed):
    if not borrowed:
        monkeypatch.setattr(_openmp, "run", lambda work, threads: False)
    seen, threads = who(9)
    assert seen == list(range(9))
    assert len(threads) == 2


@pytest.mark.skipif(_openmp._parallel() is None, reason="torch here has no GNU OpenMP library of its own")
def test_torchs_threads_are_borrowed_by_the_main_thread_alone(two_threads):
    turns: list[int] = []
    assert _openmp.run(lambda: turns.append(threading.get_ident()), 2)
    assert len(set(turns)) == 2
    other: list[bool] = []
    thread = threading.Thread(target=lambda: other.append(_openmp.run(lambda: None, 2)))
    thread.start()
    thread.join()
    assert other == [False]


def test_a_team_larger_than_torchs_is_not_borrowed(two_threads):
    assert not _openmp.run(lambda: pytest.fail("must not run"), 3)
    torch.set_num_threads(_openmp._MOST + 1)
    assert not _openmp.run(lambda: pytest.fail("must not run"), 2)


def test_a_crowded_machine_is_left_to_its_scheduler(two_threads, monkeypatch):
    monkeypatch.setattr(_openmp, "_crowded", lambda: True)
    assert not _openmp.run(lambda: pytest.fail("must not run"), 2)
    assert who(4)[0] == [0, 1, 2, 3]


@pytest.mark.skipif(_openmp._load() is None, reason="this system does not say how many threads want to run")
def test_more_threads_than_processors_are_a_crowd(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 100_000)
    assert not _openmp._crowded()
    monkeypatch.setattr(os, "cpu_count", lambda: -1)
    assert _openmp._crowded()


def test_other_python_threads_share_rows_too(two_threads):
    found: list[tuple[list[int], set[int]]] = []
    callers = [threading.Thread(target=lambda: found.append(who(5))) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert [seen for seen, _ in found] == [list(range(5))] * 3


def test_parts_may_share_their_own_rows(two_threads):
    inner: list[list[int]] = []
    _threads.run_parts(lambda part: inner.append(who(3)[0]), 2)
    assert inner == [[0, 1, 2]] * 2


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_ends_the_call_and_reaches_the_caller(two_threads, kind):
    done: list[int] = []

    def fail(part: int) -> None:
        done.append(part)
        if part == 1:
            raise kind("part 1")
        time.sleep(0.005)

    with pytest.raises(kind, match="part 1"):
        _threads.run_parts(fail, 100)
    assert len(done) < 100
    assert who(4)[0] == [0, 1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_fork_waits_for_no_lock_of_its_parent():
    with _catalogue_blocks._ALONE:
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            _catalogue_blocks.run_units(lambda unit: None, 1)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_of_a_fork_does_without_torchs_threads(two_threads):
    assert who(4)[0] == [0, 1, 2, 3]
    child = os.fork()
    if child == 0:
        try:
            seen, threads = who(4)
            right = seen == [0, 1, 2, 3] and len(threads) == 2 and not _openmp.run(lambda: None, 2)
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
