"""Negatives of which each stratum of the catalogue has a stated share, even within it: the definition.

A slot reads block ``slot`` of its user. Strata of which the user has something left are open; their shares (of 2**32)
sum to ``S``.
Word 0 below ``S`` (Lemire's test where ``S < 2**32``; its own attempts) lies in the share of one of them, laid end to
end in order.
Word 1 (its own attempts) is a draw from that stratum of ``n`` items, listed ascending, ``e`` of them excluded: below
``n``, another attempt if the item is excluded, where ``2 e <= n``; else below ``n - e``, a rank among those left.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.kernels.reference._sampler import Drawn, RowSampler, Stream


class StratifiedSampler(RowSampler):
    """Draws by stratum; ``stratum_of`` uint8[num_items], ``shares`` uint64[strata] that sum to 2**32."""

    words_per_slot = 4

    def __init__(
        self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int, stratum_of: NDArray[np.uint8],
        shares: NDArray[np.uint64],
    ) -> None:  # fmt: skip
        super().__init__(indptr, indices, num_items)
        self.shares: list[int] = shares.tolist()
        self.strata: list[list[int]] = [np.flatnonzero(stratum_of == s).tolist() for s in range(len(shares))]

    def draw(self, stream: Stream, excluded: set[int], replacement: bool) -> Drawn:
        """Return the draws of a row."""
        assert replacement
        left = [[i for i in items if i not in excluded] for items in self.strata]
        open_strata = [s for s in range(len(left)) if left[s]]
        share_left = sum(self.shares[s] for s in open_strata)
        if share_left == 0:
            return [], []
        items, logs = [], []
        for slot in stream.slots:
            coin = stream.below(share_left, slot)
            for stratum in open_strata:
                if coin < self.shares[stratum]:
                    break
                coin -= self.shares[stratum]
            items.append(self._within(stream, slot, self.strata[stratum], left[stratum], excluded))
            logs.append(math.log(self.shares[stratum] / share_left) - math.log(len(left[stratum])))
        return items, logs

    @staticmethod
    def _within(stream: Stream, slot: int, items: list[int], left: list[int], excluded: set[int]) -> int:
        if 2 * (len(items) - len(left)) <= len(items):
            return items[stream.below(len(items), slot, lambda at: items[at] not in excluded, at=1)]
        return left[stream.below(len(left), slot, at=1)]
