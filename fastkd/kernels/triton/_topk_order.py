"""Last step of ``rank_topk``: the best k of each user's keys in order, as scores and ids.

Keys of a user are sorted in tiles of T. The rank of a key is its place in its own tile plus, by binary search, the
number of larger keys in each other tile: all keys differ, so ranks do too.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastkd.kernels.triton._math import INTERPRETING
from fastkd.kernels.triton._topk_math import EMPTY, LAST_ID, NAN_ORDER

QUIET_NAN = tl.constexpr(0x7FC00000)
MINUS_INFINITY = tl.constexpr(-0x800000)


@triton.jit
def sort_tiles(key_ptr, count_ptr, E, T: tl.constexpr):
    """Sort each tile of keys [B, E] downwards; places past the count become EMPTY."""
    user = tl.program_id(0).to(tl.int64)
    lane = tl.program_id(1) * T + tl.arange(0, T)
    count = tl.load(count_ptr + 2 * user + 1)
    key = tl.load(key_ptr + user * E + lane, mask=lane < count, other=EMPTY)
    tl.debug_barrier()
    if INTERPRETING:  # it runs a sorting network one element at a time, for seconds
        place = tl.arange(0, T)
        ahead = (key[None, :] > key[:, None]) | ((key[None, :] == key[:, None]) & (place[None, :] < place[:, None]))
        lane = tl.program_id(1) * T + tl.sum(ahead.to(tl.int32), 1)
    else:
        key = tl.sort(key, descending=True)
    tl.store(key_ptr + user * E + lane, key, mask=lane < E)


@triton.jit
def place_tiles(key_ptr, score_ptr, id_ptr, E, k, tiles, T: tl.constexpr, STEPS: tl.constexpr):
    """Write keys of rank below k to scores, ids [B, k]: EMPTY is padding (-inf, -1), ordered by place."""
    user = tl.program_id(0).to(tl.int64)
    mine = tl.program_id(1)
    lane = mine * T + tl.arange(0, T)
    key = tl.load(key_ptr + user * E + lane, mask=lane < E, other=EMPTY)
    rank = tl.arange(0, T)
    for t in range(tiles):
        if t != mine:
            low = tl.zeros([T], tl.int32)
            high = tl.zeros([T], tl.int32) + tl.minimum(E - t * T, T)
            for _ in range(STEPS):
                middle = (low + high) // 2
                open_ = low < high
                other = tl.load(key_ptr + user * E + t * T + middle, mask=open_, other=EMPTY)
                # EMPTY keys are alike: those of earlier tiles come first, so that padding has a place of its own.
                ahead = open_ & ((other > key) | ((other == key) & (t < mine)))
                low = tl.where(ahead, middle + 1, low)
                high = tl.where(open_ & (~ahead), middle, high)
            rank += low
    order = (key >> 32).to(tl.int32)
    bits = tl.where(order == NAN_ORDER, QUIET_NAN, order ^ ((order >> 31) & 0x7FFFFFFF))
    bits = tl.where(key == EMPTY, MINUS_INFINITY, bits)
    item = tl.where(key == EMPTY, -1, (key & 0xFFFFFFFF) * -1 + LAST_ID)
    mask = (rank < k) & (lane < E)
    tl.store(score_ptr + user * k + rank, bits.to(tl.float32, bitcast=True), mask=mask)
    tl.store(id_ptr + user * k + rank, item, mask=mask)
