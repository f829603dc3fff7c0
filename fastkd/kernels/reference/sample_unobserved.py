"""Uniform negatives, written plainly from the definition: the truth for the C++ and numba samplers.

Definition. ``E`` distinct items are excluded for a row: the user's history and the row's extra list.
``word(slot, attempt) = philox4x32(key, (user mod 2**32, user div 2**32, slot div 4, attempt))[slot mod 4]``.
A draw of a slot below ``bound`` walks attempts 0, 1, ... and takes the first whose word passes Lemire's
test (no bias) and whose value ``word * bound div 2**32`` is acceptable:

- with replacement, ``2 E <= N``: bound ``N``, acceptable when the item is not excluded;
- with replacement, else: bound ``N - E``, the value is a rank among the items left, ascending;
- without replacement, slots ``j`` with ``2 (E + j) <= N``: as the first, and not drawn by an earlier slot;
- without replacement, later slots: list the items left ascending, then Fisher-Yates: the value, below
  the number of items left, is an offset from the first item not drawn yet, which it changes places with.

A slot that finds no item left is -1; such slots are the last ones of the row. Sources: Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3" (SC'11); Lemire, "Fast random integer generation in an
interval" (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core.philox import philox4x32


class UniformSampler:
    """Row-by-row draws in numpy and Python loops; slow, and the same face as ``fastkd._native``."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        self.indptr, self.indices, self.num_items = indptr, indices, num_items

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[np.int64],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
    ) -> int:
        """Fill ``out`` int64[B, n]; return the first row with fewer items left than slots, or -1."""
        del threads
        for row, user in enumerate(users):
            extra = exclude_lists[row] if exclude_lists is not None else ()
            out[row] = self._draw(key, int(user), out.shape[1], extra, replacement)
        short = np.flatnonzero((out < 0).any(axis=1))
        return int(short[0]) if len(short) else -1

    def sample_epoch(self, key: int, out: NDArray[Any], threads: int = 1) -> int:
        """Fill ``out`` [nnz, n]; return the first user with no item left, or -1."""
        del threads
        flat = out.reshape(-1)
        short = -1
        for user, (begin, end) in enumerate(zip(self.indptr[:-1], self.indptr[1:], strict=True)):
            n = out.shape[1]
            flat[begin * n : end * n] = self._draw(key, user, int(end - begin) * n, (), True)
            if short < 0 and (flat[begin * n : end * n] < 0).any():
                short = user
        return short

    def _draw(self, key: int, user: int, slots: int, extra: Any, replacement: bool) -> list[int]:
        history = self.indices[self.indptr[user] : self.indptr[user + 1]]
        excluded = {int(i) for i in history} | {int(i) for i in extra if i >= 0}
        stream = _Stream(key, user, slots)
        drawer = _with_replacement if replacement else _without_replacement
        drawn = drawer(stream, excluded, self.num_items)
        return drawn + [-1] * (slots - len(drawn))


def _with_replacement(stream: _Stream, excluded: set[int], num_items: int) -> list[int]:
    left = [i for i in range(num_items) if i not in excluded]
    if not left:
        return []
    if 2 * len(excluded) <= num_items:
        return [stream.below(num_items, slot, lambda item: item not in excluded) for slot in range(stream.slots)]
    return [left[stream.below(len(left), slot)] for slot in range(stream.slots)]


def _without_replacement(stream: _Stream, excluded: set[int], num_items: int) -> list[int]:
    taken = set(excluded)
    drawn: list[int] = []
    for slot in range(min(stream.slots, num_items - len(excluded))):
        if 2 * len(taken) > num_items:
            break
        drawn.append(stream.below(num_items, slot, lambda item: item not in taken))
        taken.add(drawn[-1])
    left = [i for i in range(num_items) if i not in taken]
    for slot in range(len(drawn), min(stream.slots, num_items - len(excluded))):
        at = stream.below(len(left), slot)
        left[0], left[at] = left[at], left[0]
        drawn.append(left.pop(0))
    return drawn


class _Stream:
    """The random words of one user's slots."""

    def __init__(self, key: int, user: int, slots: int) -> None:
        self.key, self.user, self.slots = key, user, slots
        blocks = np.arange((slots + 3) // 4)
        self.first_words = np.stack(philox4x32((user & 0xFFFFFFFF, user >> 32, blocks, 0), key), axis=-1).reshape(-1)

    def word(self, slot: int, attempt: int) -> int:
        if attempt == 0:
            return int(self.first_words[slot])
        counter = (self.user & 0xFFFFFFFF, self.user >> 32, slot // 4, attempt)
        return int(philox4x32(counter, self.key)[slot % 4])

    def below(self, bound: int, slot: int, acceptable: Callable[[int], bool] = lambda _: True) -> int:
        attempt = 0
        while True:
            product = self.word(slot, attempt) * bound
            # Of 2**32 words, 2**32 mod bound are turned away so that every value has equally many.
            if product % 2**32 >= 2**32 % bound and acceptable(product >> 32):
                return product >> 32
            attempt += 1
