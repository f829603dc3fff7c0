"""Negatives of which a stated share is uniform and the rest in proportion to a mass: the definition.

A slot reads block ``slot`` of its user. At attempt 0, word 0 below ``share`` (of 2**32) makes it uniform; it stays
what it is
at later attempts. Uniform: word 1, by the rule of ``sample_unobserved.py``. By mass: words 1 and 2, by
the rule of ``sample_popularity.py``. Where no mass is left for the user but items are, every slot is uniform (if
``share`` is not 0).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.reference._sampler import Drawn, Stream
from fastkd.kernels.reference.sample_popularity import FULL, PopularitySampler


class MixedSampler(PopularitySampler):
    """A share of uniform draws, the rest in proportion to ``masses``; with replacement."""

    words_per_slot = 4

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int, masses: NDArray[np.uint64],
        share: int, threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(indptr, indices, num_items, masses, threads)
        self.share = share

    def draw(self, stream: Stream, excluded: set[int], replacement: bool) -> Drawn:
        """Return the draws of a row."""
        assert replacement
        total = sum(self.masses)
        free = [i for i in range(self.num_items) if i not in excluded]
        left = total - sum(self.masses[i] for i in excluded)
        share = self.share if left > 0 else FULL if self.share > 0 else 0
        if not free or (left == 0 and share == 0):
            return [], []
        began_with, missing = (left, excluded) if 2 * left < total else (total, set[int]())
        items: list[int] = []
        for slot in stream.slots:
            if stream.words(slot, 0)[0] >= share:
                items.append(self.weighted(stream, slot, excluded, began_with, missing, at=1))
            elif len(excluded) <= len(free):
                items.append(stream.below(self.num_items, slot, lambda item: item not in excluded, at=1))
            else:
                items.append(free[stream.below(len(free), slot, at=1)])
        even = share / FULL
        heavy = [(1 - even) * (self.masses[i] / left) if left > 0 else 0.0 for i in items]
        return items, [math.log(even / len(free) + h) for h in heavy]
