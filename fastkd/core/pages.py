"""Large memory pages for big tables.

A step of KD reads and writes some ten thousand rows scattered over a table. In pages of 4 KiB almost each of them costs
a walk through the page tables beside the read itself, the more so in a virtual machine; in pages of 2 MiB a table of
1 GB has five hundred entries, which processors keep. Linux gives such pages where they are asked for (transparent huge
pages in mode ``madvise`` or ``always``); numpy asks by itself, torch does not.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 8 << 20
"""Bytes below which nothing is asked for: such a table has few pages anyway."""

_LARGE = 2 << 20
"""Bytes of a large page on x86-64, and on arm64 with 4 KiB pages; others round to whole pages of theirs."""
_COLLAPSE = 25
"""``MADV_COLLAPSE`` of Linux 6.1: the pages that are in use already are moved together at once."""

_Advise = Callable[[int, int, int], int]


def use_large_pages(table: Tensor) -> bool:
    """Ask for large pages behind a table on the CPU; returns whether the system agreed.

    ``table``: any dtype and shape, with a memory of its own that stays where it is (a parameter, an optimiser's state).
    The values stay as they are and so does everything that can be seen of them but time. Memory in use is moved, which
    takes about a second a GB; on Linux before 6.1 the system does so in the background, later. Ends that
    do not fill a large page keep small ones. False, and nothing changed, for less than ``SMALLEST`` bytes, for other
    devices and on other systems.
    """
    if table.device.type != "cpu":
        return False
    storage = table.untyped_storage()
    return _ask(storage.data_ptr(), storage.nbytes())


def _ask(address: int, size: int) -> bool:
    advise = _advise()
    start, stop = -(-address // _LARGE) * _LARGE, (address + size) // _LARGE * _LARGE
    if advise is None or size < SMALLEST or stop <= start:
        return False
    if advise(start, stop - start, mmap.MADV_HUGEPAGE) != 0:
        return False
    # Older systems refuse the second request and have the first one, which is enough to answer yes.
    advise(start, stop - start, _COLLAPSE)
    return True


@functools.cache
def _advise() -> _Advise | None:
    if not sys.platform.startswith("linux") or not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    found = ctypes.CDLL(None).madvise
    found.argtypes, found.restype = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int), ctypes.c_int
    advise: _Advise = found
    return advise
