"""Rows of one kernel call shared among threads.

Kernels are serial machine code over a range of rows that releases the GIL; threads are ours. So a kernel may be
called from any number of Python threads, survives ``fork``, needs no threading library, compiles in a fraction of
the time of numba's ``parallel=True``, and a small call pays for no hand-over. Each output row is written by one
range, so the bits of a result do not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_GRAIN = 100_000
"""Smallest work (about nanoseconds) worth a hand-over to another thread, which costs about 20 microseconds."""

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
    """Return how many ranges to cut ``rows`` into: at most torch's thread count, each worth a hand-over."""
    return max(1, min(torch.get_num_threads(), rows, int(rows * nanoseconds) // _GRAIN))


def run_rows(kernel: Callable[..., Any], rows: int, nanoseconds: float, *arguments: Any) -> None:
    """Run ``kernel(*arguments, start, stop)`` over ``[0, rows)``, in parallel where it pays.

    ``nanoseconds``: rough work per row. The caller's thread takes the first range.
    """
    if rows * nanoseconds < 2 * _GRAIN:
        kernel(*arguments, 0, rows)
        return
    parts = num_parts(rows, nanoseconds)
    run_parts(lambda part: kernel(*arguments, rows * part // parts, rows * (part + 1) // parts), parts)


def run_parts(call: Callable[[int], Any], parts: int) -> None:
    """Run ``call(part)`` for every part, the first in the caller's thread; all have ended on return."""
    if parts == 1:
        call(0)
        return
    pool = _executor(parts - 1)
    others = [pool.submit(call, part) for part in range(1, parts)]
    try:
        call(0)
    finally:
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error
