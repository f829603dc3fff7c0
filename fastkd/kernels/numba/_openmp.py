"""The OpenMP threads that torch runs its own operators on, borrowed for a kernel.

After an operator torch's threads go on spinning for milliseconds, so that the next one finds them awake. Threads of
our own would share the cores with them and come off with half of each: on two cores two threads were no faster
than one. Borrowed, the spinning thread is the one that works, and to hand over costs a microsecond or two.

There are times to leave them alone: in a forked child they do not exist; a thread that is not the main one would get a
second set; each enters the interpreter to begin, which many do one after another; and all must begin before any may
end, which on a crowded machine takes as long as the system lets another program run. Then :func:`run` says no.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_MOST = 8
"""Largest team: to begin costs each some 10 microseconds in turn."""

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_forked = False


def _in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def run(work: Callable[[], None], threads: int) -> bool:
    """Call ``work()`` on each of torch's threads at once, on ``threads`` or more; return whether this was possible.

    ``work`` raises nothing, and may find that others have left it nothing to do. A team may turn out smaller
    than asked for (inside another one it is a single thread).
    """
    team = torch.get_num_threads()
    if _forked or not threads <= team <= _MOST or threading.get_ident() != threading.main_thread().ident:
        return False
    parallel = _parallel()
    if parallel is None or _crowded():
        return False
    # A team of another size than torch's own would make the library end threads and start them again.
    parallel(_BODY(lambda _: work()), None, team, 0)
    return True


def _crowded() -> bool:
    """Return whether more threads want to run now than there are processors, torch's that spin among them."""
    file = _load()
    if file is None:
        return False
    # "0.42 0.31 0.25 2/123 4567": what runs or wants to, of all there are.
    return int(os.pread(file, 64, 0).split(b"/", 1)[0].rsplit(b" ", 1)[1]) > (os.cpu_count() or 1)


@functools.cache
def _load() -> int | None:
    try:
        return os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


@functools.cache
def _parallel() -> Any:
    """Return ``GOMP_parallel(body, data, threads, flags)`` of the library that torch has loaded, None if unknown."""
    if os.name != "posix" or not hasattr(os, "RTLD_NOLOAD") or not torch.backends.openmp.is_available():  # type: ignore[no-untyped-call]
        return None
    folder = Path(torch.__file__).resolve().parent
    found = sorted({*folder.glob("lib/libgomp*.so*"), *folder.parent.glob("torch.libs/libgomp*.so*")})
    if len(found) != 1:
        return None
    try:
        parallel = ctypes.CDLL(str(found[0]), mode=os.RTLD_NOLOAD | os.RTLD_LAZY).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.argtypes = (_BODY, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    return parallel
