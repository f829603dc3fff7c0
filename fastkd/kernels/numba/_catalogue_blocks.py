"""How a sweep over users x items is cut into tiles and shared among threads, the same way for any number of them.

A thread takes whole units of work. Inside a unit BLAS runs on that one thread and tiles come in a fixed order, so a
result depends on shapes alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastkd.kernels.numba._blocks import run_blocks
from fastkd.kernels.numba._product import Users, multiply, ready

USERS = 256
"""Users of a tile."""
ITEMS = 512
"""Items of a tile: 256 x 512 float32 scores stay in a core's L2 cache between product, exponential and product."""
_NUMBERS = 384 * ITEMS
_WIDEST = 8
_SPLITS = 16
_PARTIAL_BYTES = 64 << 20
_ALONE = threading.Lock()


def _renew_lock() -> None:
    # A forked child has the lock as it was, perhaps held by a thread it has not.
    global _ALONE
    _ALONE = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def width_of(users: int, dim: int) -> int:
    """Return the items of a tile for ``users`` users of ``dim`` dimensions: more where the users are few.

    A tile's scores and vectors fill the same share of the cache, and a small batch does not spend its time on starting
    products.
    """
    fits = _NUMBERS // (max(1, min(users, USERS)) + dim)
    return ITEMS * max(1, min(_WIDEST, fits // ITEMS))


def splits(num_items: int, bytes_each: int, width: int) -> int:
    """Return into how many ranges to cut the catalogue where each range keeps ``bytes_each`` bytes of its own."""
    tiles = -(-num_items // width)
    return max(1, min(_SPLITS, tiles, _PARTIAL_BYTES // max(bytes_each, 1)))


def tiles(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut a range into tiles of ``size``, the last one shorter."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def user_blocks(users: Tensor) -> list[tuple[slice, Users]]:
    """Cut the users into blocks of a tile's height, each ready for products."""
    cut = [slice(start, stop) for start, stop in tiles(0, len(users), USERS)]
    return [(rows, ready(users[rows])) for rows in cut]


def item_range(part: int, parts: int, num_items: int, width: int) -> tuple[int, int]:
    """Return range ``part`` of ``parts``, in whole tiles of ``width`` items."""
    count = -(-num_items // width)
    return min(count * part // parts * width, num_items), min(count * (part + 1) // parts * width, num_items)


def run_units(work: Callable[[int], Any], units: int) -> None:
    """Call ``work(unit)`` for each unit, on up to ``torch.get_num_threads()`` threads, BLAS on one thread in each."""
    if min(torch.get_num_threads(), units) > 1:
        run_blocks(work, range(units))
        return
    with _ALONE:
        # torch's thread count is also the default of threads that start meanwhile: one change at a time.
        before = torch.get_num_threads()
        if before > 1:
            torch.set_num_threads(1)
        try:
            for unit in range(units):
                work(unit)
        finally:
            if before > 1:
                torch.set_num_threads(before)


def scores_of(users: Users, items: Tensor, memory: Tensor) -> Tensor:
    """Return the tile ``users @ items.T`` in the front of ``memory``."""
    count = len(users.vectors)
    tile = memory[: count * len(items)].view(count, len(items))
    multiply(users, items, tile)
    return tile
