"""The random stream of rank-discrepancy sampling, one user at a time; defined in the reference.

``gaps`` holds ``sign (r_S - r_T)``, :data:`NEVER` for what must not be drawn: by proposal (Int64[C], a pool) or by item
(Int64[N], all ranks known).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels._discrepancy import HEAD, SLOPE
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba.philox import high_word, philox4x32, word

Ints = NDArray[Any]

NEVER = -(1 << 62)
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


@jit(inline="always")
def _weight(gap: int, table: Ints, least: int, relative: bool) -> int:
    return table[gap - least if relative else max(gap, 0)]  # type: ignore[no-any-return]


@jit()
def propose(
    users: Ints, indptr: Ints, indices: Ints, num_items: int, k0: np.uint64, k1: np.uint64, ids: Ints,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write the items of proposals 0 to C - 1 of each user, -1 where void."""
    for b in range(start, stop):
        seen = indices[indptr[b] : indptr[b + 1]]
        for t in range(ids.shape[1]):
            w0, _, _, _ = philox4x32(word(t), word(users[b]), high_word(users[b]), word(0), k0, k1)
            ids[b, t] = _item(w0, num_items)
            if ids[b, t] >= 0:
                at = np.searchsorted(seen, ids[b, t])
                if at < len(seen) and seen[at] == ids[b, t]:
                    ids[b, t] = -1


@jit(inline="always")
def _item(w0: Any, num_items: int) -> int:
    """Return the item of a word, or -1 where Lemire's test turns it away."""
    bound = np.uint64(num_items)
    product = w0 * bound
    if (product & _MASK) < np.uint64(0x100000000) % bound:
        return -1
    return np.int64(product >> _SHIFT)  # type: ignore[return-value]


@jit()
def draw_slots(
    user: int, out: Ints, gaps: Ints, by_item: bool, num_items: int, sums: Ints, table: Ints, bits: int,
    relative: bool, rejects: bool, replacement: bool, k0: np.uint64, k1: np.uint64,
) -> bool:  # fmt: skip
    """Fill the slots; false where a pool does not suffice. ``sums`` Int64[N] is scratch for inversion.

    By item and without replacement, ``gaps`` of drawn items become :data:`NEVER`.
    """
    t, ready = 0, False
    for slot in range(len(out)):
        end, item = SLOPE * (slot + HEAD), -1
        while rejects and item < 0 and t < end:
            if not by_item and t >= len(gaps):
                return False
            w0, _, w2, w3 = philox4x32(word(t), word(user), high_word(user), word(0), k0, k1)
            wanted = _item(w0, num_items)
            if wanted >= 0:
                gap = gaps[wanted] if by_item else gaps[t]
                height = np.int64((w2 << np.uint64(bits - 32)) | (w3 >> np.uint64(64 - bits)))
                if gap != NEVER and height < _weight(gap, table, 1 - num_items, relative):
                    item = wanted
            if item >= 0 and not replacement and not by_item and _among(out[:slot], item):
                item = -1
            t += 1
        if item < 0:
            if not by_item:
                return False
            if not ready:
                _running_sums(gaps, table, relative, sums)
                ready = replacement
            if sums[-1] == 0:
                out[slot:] = -1
                return True
            item = _invert(user, slot, sums, k0, k1)
        out[slot] = item
        if by_item and not replacement:
            gaps[item] = NEVER
    return True


@jit()
def _among(items: Ints, item: int) -> bool:
    found = False
    for other in items:
        found |= other == item
    return found


@jit()
def _running_sums(gaps: Ints, table: Ints, relative: bool, sums: Ints) -> None:
    """Write the running sum of weights of the items left; 1, 2, ... of them where every weight is 0."""
    least = -NEVER
    for gap in gaps:
        if gap != NEVER:
            least = min(least, gap)
    total = 0
    for i in range(len(gaps)):
        if gaps[i] != NEVER:
            total += _weight(gaps[i], table, least, relative)
        sums[i] = total
    if total == 0:
        for i in range(len(gaps)):
            total += gaps[i] != NEVER
            sums[i] = total


@jit()
def _invert(user: int, slot: int, sums: Ints, k0: np.uint64, k1: np.uint64) -> int:
    """Return the first item whose running sum exceeds ``(w0, w1) total div 2**64``."""
    w0, w1, _, _ = philox4x32(word(slot), word(user), high_word(user), np.uint64(1), k0, k1)
    low, high = word(sums[-1]), high_word(sums[-1])
    first, second = w1 * high, w0 * low
    carry = (((w1 * low) >> _SHIFT) + (first & _MASK) + (second & _MASK)) >> _SHIFT
    target = np.int64(w0 * high + (first >> _SHIFT) + (second >> _SHIFT) + carry)
    return np.searchsorted(sums, target, side="right")  # type: ignore[return-value]
