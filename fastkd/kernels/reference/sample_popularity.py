"""Negatives in proportion to a mass per item, written plainly from the definition.

Definition. ``m_i`` are integers that sum to ``T = N * 2**32``; a slot ``s`` reads two words of block ``s div 2`` of
its user,
``a = word[2 (s mod 2)]`` and ``b``, the one after it. What is left of the catalogue weighs ``L`` (history, extra
list and, without replacement, earlier slots are gone). Stage 0 draws from the whole catalogue; a stage that began
with weight ``S``
(``T`` for stage 0) ends before the first slot that finds ``2 L < S``, and the next one draws from what is left there.

- stage 0: bucket ``k = a * N div 2**32`` (Lemire's test), the item is ``k`` if ``b < kept[k]``, else ``alias[k]``;
- later stages: a mass below ``S`` from ``a + b * 2**32`` (Lemire's test with 64 bits), and the item that covers it
when those
  left at the beginning of the stage are laid end to end, ascending.

Another attempt if the item is gone. So at least half of the weight drawn from is left, and no row takes long. The alias
table is that of Walker (1977), filled in one sweep (Huebschle-Schneider and Sanders 2019): light items, ascending,
top their bucket
up from the heavy item in hand, which is topped up by the next heavy one once it is light itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.reference._sampler import Drawn, RowSampler, Stream

FULL = 2**32


def alias_table(masses: list[int]) -> tuple[list[int], list[int]]:
    """Return ``kept`` and ``alias`` of each bucket."""
    rest = list(masses)
    kept, alias = [0] * len(masses), list(range(len(masses)))
    light = [i for i, mass in enumerate(masses) if mass < FULL]
    heavy = [i for i, mass in enumerate(masses) if mass >= FULL]
    while heavy:
        if rest[heavy[0]] < FULL:
            poor = heavy.pop(0)
        elif light:
            poor = light.pop(0)
        else:
            break
        kept[poor], alias[poor] = rest[poor], heavy[0]
        rest[heavy[0]] -= FULL - rest[poor]
    return kept, alias


def by_mass(masses: list[int], gone: set[int], offset: int) -> int:
    """Return the item that covers ``offset`` when the items not gone are laid end to end."""
    for item, mass in enumerate(masses):
        if item not in gone:
            if offset < mass:
                return item
            offset -= mass
    raise AssertionError("the offset is past what is left")


class PopularitySampler(RowSampler):
    """Draws in proportion to ``masses``, uint64[num_items] that sum to ``num_items * 2**32``."""

    words_per_slot = 2

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int, masses: NDArray[np.uint64],
        threads: int = 1,
    ) -> None:  # fmt: skip
        super().__init__(indptr, indices, num_items)
        del threads
        self.masses: list[int] = masses.tolist()
        self.kept, self.alias = alias_table(self.masses)

    def draw(self, stream: Stream, excluded: set[int], replacement: bool) -> Drawn:
        """Return the draws of a row."""
        items, logs, gone = [], [], set(excluded)
        left = sum(self.masses) - sum(self.masses[i] for i in gone)
        began_with, missing = sum(self.masses), set[int]()
        for slot in stream.slots:
            if left == 0:
                break
            if 2 * left < began_with:
                began_with, missing = left, set(gone)
            items.append(self.weighted(stream, slot, gone, began_with, missing))
            logs.append(math.log(self.masses[items[-1]]) - math.log(left))
            if not replacement:
                gone.add(items[-1])
                left -= self.masses[items[-1]]
        return items, logs

    def weighted(
        self, stream: Stream, slot: int, gone: set[int], began_with: int, missing: set[int], at: int = 0
    ) -> int:
        """Return the draw of one slot in a stage that began with this weight, without ``missing``."""
        attempt = 0
        while True:
            first, second = stream.words(slot, attempt)[at : at + 2]
            attempt += 1
            if began_with == sum(self.masses):
                if first * self.num_items % FULL < FULL % self.num_items:
                    continue
                bucket = first * self.num_items // FULL
                item = bucket if second < self.kept[bucket] else self.alias[bucket]
            else:
                product = (first | second << 32) * began_with
                if product % 2**64 < 2**64 % began_with:
                    continue
                item = by_mass(self.masses, missing, product >> 64)
            if item not in gone:
                return item
