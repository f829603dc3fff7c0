"""What the reference samplers share: rows of a call, the words of a user's slots, exact bounded integers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core.philox import philox4x32

Drawn = tuple[list[int], list[float]]
"""Items of a row's slots and their log-probabilities; shorter than the row where items ran out."""


class RowSampler:
    """Row-by-row draws in numpy and Python loops; slow, and the same face as ``fastkd._native``."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        self.indptr, self.indices, self.num_items = indptr, indices, num_items

    def draw(self, stream: Stream, excluded: set[int], replacement: bool) -> Drawn:
        """Return the draws of the slots of ``stream`` outside ``excluded``."""
        raise NotImplementedError

    words_per_slot = 1

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[Any],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
        first_slots: NDArray[np.int64] | None = None,
        log_prob: NDArray[np.float32] | None = None,
    ) -> int:
        """Fill ``out`` [B, n]; return the first row with fewer items left than slots, or -1."""
        del threads
        short = -1
        for row, user in enumerate(users):
            extra = exclude_lists[row] if exclude_lists is not None else ()
            first = int(first_slots[row]) if first_slots is not None else 0
            filled = self._fill(key, int(user), first, out[row], extra, replacement, log_prob, row)
            if filled < out.shape[1] and short < 0:
                short = row
        return short

    def sample_epoch(
        self, key: int, out: NDArray[Any], threads: int = 1, indptr: NDArray[np.int64] | None = None
    ) -> int:
        """Fill ``out`` [nnz, n]; return the first user with no item left, or -1."""
        del threads
        flat, n, short = out.reshape(-1), out.shape[1], -1
        pointers = self.indptr if indptr is None else indptr
        for user, (begin, end) in enumerate(itertools.pairwise(pointers.tolist())):
            slots = flat[begin * n : end * n]
            if self._fill(key, user, 0, slots, (), True, None, 0) < len(slots) and short < 0:
                short = user
        return short

    def _fill(
        self, key: int, user: int, first: int, out: Any, extra: Any, replacement: bool, log_prob: Any, row: int
    ) -> int:
        if len(out) == 0:
            return 0
        history = self.indices[self.indptr[user] : self.indptr[user + 1]]
        excluded = {int(i) for i in history} | {int(i) for i in extra if i >= 0}
        items, logs = self.draw(Stream(key, user, first, len(out), self.words_per_slot), excluded, replacement)
        out[: len(items)], out[len(items) :] = items, -1
        if log_prob is not None:
            log_prob[row, : len(items)], log_prob[row, len(items) :] = logs, -np.inf
        return len(items)


class Stream:
    """The random words of slots ``first .. first + slots - 1`` of one user; a slot takes 1, 2 or 4 words of a block."""

    def __init__(self, key: int, user: int, first: int, slots: int, words_per_slot: int = 1) -> None:
        self.key, self.user, self.slots, self.width = key, user, range(first, first + slots), words_per_slot
        per_block = 4 // words_per_slot
        blocks = np.arange(first // per_block, (first + slots - 1) // per_block + 1)
        words = np.stack(philox4x32((user & 0xFFFFFFFF, user >> 32, blocks, 0), key), axis=-1)
        self._base = int(blocks[0]) * per_block
        self._first_words = words.reshape(-1, words_per_slot).tolist()

    def words(self, slot: int, attempt: int) -> list[int]:
        """Return the words of a slot at an attempt."""
        if attempt == 0:
            return list(self._first_words[slot - self._base])
        per_block = 4 // self.width
        counter = (self.user & 0xFFFFFFFF, self.user >> 32, slot // per_block, attempt)
        at = slot % per_block * self.width
        return [int(w) for w in philox4x32(counter, self.key)[at : at + self.width]]

    def below(
        self, bound: int, slot: int, acceptable: Callable[[int], bool] = lambda _: True, *, bits: int = 32, at: int = 0
    ) -> int:
        """Return the first value below ``bound`` that is even (Lemire) and acceptable, from word ``at`` on."""
        attempt = 0
        while True:
            words = self.words(slot, attempt)
            product = (words[at] if bits == 32 else words[at] | words[at + 1] << 32) * bound
            # Of 2**bits words, 2**bits mod bound are turned away so that every value has equally many.
            if product % 2**bits >= 2**bits % bound and acceptable(product >> bits):
                return product >> bits
            attempt += 1
