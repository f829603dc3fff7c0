"""Blocks of work on a few threads that each run BLAS and kernels alone.

One thread per block beats a parallel BLAS call per tile: no barrier between product and selection, and no
spinning threads of two runtimes in each other's way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from fastkd.kernels.numba._threads import take_turns

_START_SECONDS = 60.0

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    # A forked child has the object but none of its threads: work given to it would wait for ever.
    global _lock, _pool, _pool_size
    _lock, _pool, _pool_size = threading.Lock(), None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def run_blocks(work: Callable[[int], None], starts: Sequence[int]) -> None:
    """Call ``work(start)`` for each start, on up to ``torch.get_num_threads()`` threads; an error is raised here.

    With two threads or more, torch runs on one thread inside ``work``. ``work`` should release the GIL where it
    spends its time. The threads are torch's own where they may be borrowed, else ours, which stay for the next
    call: BLAS keeps buffers per thread, and to fill new ones costs milliseconds. A ``fork`` forgets them.
    """
    take_turns(lambda part: work(starts[part]), len(starts), _share)


def _share(work: Callable[[], None], threads: int) -> None:
    pool = _executor(threads)
    wait([pool.submit(work) for _ in range(threads)])


def _executor(threads: int) -> ThreadPoolExecutor:
    """Return the pool, of at least ``threads`` threads on each of which torch runs alone."""
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < threads:
            # A pool that is replaced finishes what it was given; its idle threads end with it.
            _pool, _pool_size = _started(threads), threads
        return _pool


def _started(threads: int) -> ThreadPoolExecutor:
    before, ready = torch.get_num_threads(), threading.Barrier(threads + 1)

    def run_alone() -> None:
        # Asking first makes the thread take torch's default now, so that it cannot take it later.
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait(_START_SECONDS)

    pool = ThreadPoolExecutor(threads, "fastkd", initializer=run_alone)
    try:
        for _ in range(threads):
            pool.submit(int)
        ready.wait(_START_SECONDS)
    finally:
        # A thread's setting is its own, but it is also the default of threads that start later: put it back.
        torch.set_num_threads(before)
    return pool
