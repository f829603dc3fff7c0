"""How ``rank_topk`` cuts its work on the CPU: blocks of users, spans of the catalogue, tiles of scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LANES = 64
FEW = 24
"""Up to how many users one pass over the items beats torch's products, which wait for memory."""
_FEW_OWN, _FEW_NARROW, _NARROW = 5, 1, 32
"""The same beside our own products; for items of up to 32 numbers."""
SLACK = 512
_USER_BLOCK = 256
_LEAST_BLOCK = 64
_TILE_BYTES = 2 << 20
_STREAM_BYTES = 8 << 20
_BUFFER_BYTES = 32 << 20
_PARALLEL = 1 << 26
"""Work that one thread does alone: 64 users x 25 000 items x 20 dimensions take 2.1 ms on one thread and 2.8 on two."""
_SMALL = 48


@dataclass(frozen=True)
class Plan:
    """``block`` users at a time, each thread ``block`` users or (``spans`` > 1) one span of the catalogue.

    ``width``: items of a tile, a multiple of 64. ``capacity``: candidates a user's buffer holds. ``threads``: used.
    ``few``: up to how many users are scored in one pass over the items.
    """

    block: int
    spans: int
    width: int
    capacity: int
    threads: int
    few: int = FEW

    def scratch_bytes(self, dim: int, itemsize: int, *, copied: bool) -> int:
        """Return what all threads hold beyond the arguments and the result: tiles, buffers, items ``copied``."""
        tile = self.block * self.width * itemsize + (self.width * dim * itemsize if copied else 0)
        return self.threads * (tile + 8 * self.block * self.capacity)


def plan_rank_topk(
    count: int, num_items: int, dim: int, k: int, itemsize: int, threads: int, *, own: bool = False
) -> Plan:
    """Return how ``count`` users are ranked on at most ``threads`` threads. ``own``: with our own products.

    Many users are dealt to threads, which share nothing. Few are ranked by all threads together, each on its span
    of the catalogue: a block of few users would leave BLAS waiting for memory.
    """
    capacity = min(3 * k + SLACK, num_items + LANES)
    most = max(1, min(_USER_BLOCK, _BUFFER_BYTES // (8 * capacity)))
    if count * num_items * (dim + 8) < _PARALLEL:
        threads = 1
    spans = 1
    if threads > 1 and (count < threads or (count < _LEAST_BLOCK * threads and num_items >= threads * 4096)):
        spans = min(threads, -(-num_items // LANES))
    blocks = -(-count // most)
    if spans == 1:
        blocks = -(-blocks // threads) * threads
    block = max(1, -(-count // max(blocks, 1)))
    # Few users read each item once: no cache has to hold the tile's items, and fewer tiles cost fewer calls.
    few = few_of(dim, own=own)
    width = (_STREAM_BYTES if block <= few else _TILE_BYTES) // (max(block, dim) * itemsize) // LANES * LANES
    width = max(LANES, min(width, -(-num_items // LANES) * LANES))
    used = spans if spans > 1 else min(threads, -(-count // block))
    return Plan(block, spans, width, capacity, max(used, 1), few)


def few_of(dim: int, *, own: bool) -> int:
    """Return up to how many users are scored in one pass over the items."""
    return FEW if not own else _FEW_OWN if dim > _NARROW else _FEW_NARROW


def is_small(count: int, num_items: int, dim: int, itemsize: int, threads: int) -> bool:
    """Return whether few users are ranked on one thread over a catalogue that one tile holds."""
    if count > _SMALL or (threads > 1 and count * num_items * (dim + 8) >= _PARALLEL):
        return False
    return num_items * max(count, dim) * itemsize <= _STREAM_BYTES


def spans_of(num_items: int, spans: int) -> list[tuple[int, int]]:
    """Return the catalogue cut into ``spans`` ranges [first, last)."""
    return [(num_items * i // spans, num_items * (i + 1) // spans) for i in range(spans)]


def tile_order(first: int, last: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the tiles of [first, last), far ones first (bit-reversed counting).

    A catalogue sorted by score is the worst case of a running threshold when read in order; read this way, all but
    the first few tiles meet a threshold close to the last one.
    """
    tiles = -(-(last - first) // width)
    bits = max(tiles - 1, 0).bit_length()
    for i in range(1 << bits):
        tile = int(f"{i:0{bits}b}"[::-1], 2) if bits else 0
        if tile < tiles:
            yield first + tile * width, min(first + (tile + 1) * width, last)
