"""Blocks of work on a few threads that each run BLAS and kernels alone.

One thread per block beats a parallel BLAS call per tile: no barrier between product and selection, and no
spinning threads of two runtimes in each other's way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

_START_SECONDS = 60.0


def run_blocks(work: Callable[[int], None], starts: Sequence[int]) -> None:
    """Call ``work(start)`` for each start, on up to ``torch.get_num_threads()`` threads; an error is raised here.

    With two threads or more, torch runs on one thread inside ``work``. ``work`` should release the GIL where it
    spends its time. The threads end with the call, so nothing is left behind for a ``fork`` to lose.
    """
    before = torch.get_num_threads()
    threads = min(before, len(starts))
    if threads <= 1:
        for start in starts:
            work(start)
        return
    ready = threading.Barrier(threads + 1)

    def run_alone() -> None:
        # Asking first makes the thread take torch's default now, so that it cannot take it later.
        torch.get_num_threads()
        torch.set_num_threads(1)
        ready.wait(_START_SECONDS)

    with ThreadPoolExecutor(threads, "fastkd", initializer=run_alone) as pool:
        done = pool.map(work, starts)
        try:
            ready.wait(_START_SECONDS)
        finally:
            # A thread's setting is its own, but it is also the default of threads that start later: put it back.
            torch.set_num_threads(before)
        list(done)
