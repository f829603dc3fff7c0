"""Rows of one kernel call shared among threads.

Kernels are serial machine code over a range of rows that releases the GIL. So a kernel may be called from any number
of Python threads, survives ``fork``, compiles in a fraction of the time of numba's ``parallel=True``, and a small call
pays for no hand-over. Each output row is written by one range, so the bits of a result do not depend on the number of
threads. Ranges are taken as threads come to them: one that is disturbed does less.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from fastkd.kernels.numba import _openmp

_GRAIN = 100_000
"""Smallest work (about nanoseconds) worth a hand-over to another thread, which costs about 20 microseconds."""

_RANGES = 4
"""Most ranges a thread: to start a kernel costs some 10 microseconds."""

_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    # A forked child has the object but none of its threads: work given to it would wait for ever.
    global _pool, _pool_size
    _pool, _pool_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _executor(threads: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size < threads:
        # A pool that is replaced finishes what it was given; its idle threads end with it.
        _pool, _pool_size = ThreadPoolExecutor(threads, thread_name_prefix="fastkd"), threads
    return _pool


def num_parts(rows: int, nanoseconds: float) -> int:
    """Return how many threads ``rows`` are worth: at most torch's count, each worth a hand-over."""
    return max(1, min(torch.get_num_threads(), rows, int(rows * nanoseconds) // _GRAIN))


def run_rows(kernel: Callable[..., Any], rows: int, nanoseconds: float, *arguments: Any) -> None:
    """Run ``kernel(*arguments, start, stop)`` over ``[0, rows)``, in parallel where it pays.

    ``nanoseconds``: rough work per row.
    """
    if rows * nanoseconds < 2 * _GRAIN or (threads := num_parts(rows, nanoseconds)) == 1:
        kernel(*arguments, 0, rows)
        return
    parts = min(_RANGES * threads, rows, int(rows * nanoseconds) // _GRAIN)
    run_parts(lambda part: kernel(*arguments, rows * part // parts, rows * (part + 1) // parts), parts)


def run_parts(call: Callable[[int], Any], parts: int) -> None:
    """Run ``call(part)`` for every part, on at most torch's count of threads; all have ended on return."""
    take_turns(call, parts, _share)


def take_turns(call: Callable[[int], Any], parts: int, share: Callable[[Callable[[], None], int], None]) -> None:
    """Run ``call(part)`` for every part, in turns on torch's threads; the first error is raised, after all have ended.

    ``share(work, threads)`` runs ``work()``, which raises nothing, on threads of ours where torch's cannot be borrowed.
    """
    threads = min(parts, torch.get_num_threads())
    if threads <= 1:
        for part in range(parts):
            call(part)
        return
    turns, errors = itertools.count(), list[BaseException]()

    def work() -> None:
        # To take the next number is one step of the interpreter: no two threads get the same.
        try:
            while not errors and (part := next(turns)) < parts:
                call(part)
        except BaseException as error:
            errors.append(error)

    if not _openmp.run(work, threads):
        share(work, threads)
    if errors:
        raise errors[0]


def _share(work: Callable[[], None], threads: int) -> None:
    pool = _executor(threads - 1)
    others = [pool.submit(work) for _ in range(threads - 1)]
    work()
    for other in others:
        # Who has not begun by now, on a busy machine, has nothing left to do.
        if not other.cancel():
            other.result()
