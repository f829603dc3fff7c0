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

import math

import numpy as np
import torch
from torch import Tensor

from fastkd.kernels.reference._sampler import Drawn, RowSampler, Stream


def sample_unobserved(
    users: Tensor, n: int, indptr: Tensor, indices: Tensor, num_items: int, lists: Tensor | None, replacement: bool,
    key: int,
) -> Tensor:  # fmt: skip
    """Return Int64[B, n], -1 where no item is left; see :func:`fastkd.ops.sample_unobserved`."""
    sampler = UniformSampler(indptr.cpu().numpy(), indices.cpu().numpy(), num_items)
    out = np.empty((len(users), n), dtype=np.int64)
    extra = None if lists is None else lists.cpu().numpy()
    sampler.sample(users.cpu().numpy(), key, out, extra, replacement)
    return torch.from_numpy(out).to(users.device)


class UniformSampler(RowSampler):
    """Draws evenly from the items a user has not seen."""

    def draw(self, stream: Stream, excluded: set[int], replacement: bool) -> Drawn:
        """Return the draws of a row."""
        left = self.num_items - len(excluded)
        if not replacement:
            drawn = _without_replacement(stream, excluded, self.num_items)
            return drawn, [-math.log(left - j) for j in range(len(drawn))]
        drawn = _with_replacement(stream, excluded, self.num_items)
        return drawn, [-math.log(max(left, 1))] * len(drawn) if drawn else []


def _with_replacement(stream: Stream, excluded: set[int], num_items: int) -> list[int]:
    left = [i for i in range(num_items) if i not in excluded]
    if not left:
        return []
    if 2 * len(excluded) <= num_items:
        return [stream.below(num_items, slot, lambda item: item not in excluded) for slot in stream.slots]
    return [left[stream.below(len(left), slot)] for slot in stream.slots]


def _without_replacement(stream: Stream, excluded: set[int], num_items: int) -> list[int]:
    taken = set(excluded)
    drawn: list[int] = []
    for slot in range(min(len(stream.slots), num_items - len(excluded))):
        if 2 * len(taken) > num_items:
            break
        drawn.append(stream.below(num_items, slot, lambda item: item not in taken))
        taken.add(drawn[-1])
    left = [i for i in range(num_items) if i not in taken]
    for slot in range(len(drawn), min(len(stream.slots), num_items - len(excluded))):
        at = stream.below(len(left), slot)
        left[0], left[at] = left[at], left[0]
        drawn.append(left.pop(0))
    return drawn
