"""Rank-discrepancy-aware sampling (Kweon et al., "Bidirectional Distillation", WWW'21) in dense chunks of users.

With ranks r over the items a user has not seen and ``gap = sign (r_S - r_T)``:
``teacher_to_student`` draws item j with weight ``tanh(max(gap_j eps, 0))``, ``student_to_teacher`` with
``exp(-gap_j eps)``. Draw s of user u takes the first item, in order of id, whose running sum of weights exceeds
``U total``; U has 52 bits, from words 0 and 1 of the Philox block with counter (s, user low, user high, 0).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.philox import philox4x32
from fastkd.kernels.reference._ranking import canonical_scores, excluded_items, rank_order

_CELLS = 1 << 21


def sample_rank_discrepancy(
    teacher: tuple[Tensor, Tensor],
    student: tuple[Tensor, Tensor],
    users: Tensor,
    offsets: NDArray[np.int64],
    indptr: Tensor,
    indices: Tensor,
    table: NDArray[np.float64],
    shifted: bool,
    sign: int,
    key: int,
) -> NDArray[np.int64]:
    """Return the samples Int64[offsets[-1]], those of ``users[b]`` at ``offsets[b]:offsets[b + 1]``.

    ``table``, ``shifted``: see ``fastkd.ops.sample_rank_discrepancy.weight_table``; ``indptr`` Int64[B + 1] and
    ``indices``: the seen items of each of ``users``.
    """
    num_items = len(teacher[1])
    samples = np.empty(offsets[-1], dtype=np.int64)
    chunk = max(1, _CELLS // max(1, num_items))
    for start in range(0, len(users), chunk):
        part = slice(start, min(start + chunk, len(users)))
        excluded = excluded_items(indptr, indices, part, num_items)
        ranks = [_ranks(u[users[part]], v, excluded) for u, v in (teacher, student)]
        gaps = sign * (ranks[1] - ranks[0]).numpy()
        for b in np.flatnonzero(np.diff(offsets[part.start : part.stop + 1])) + part.start:
            row = b - part.start
            allowed = np.flatnonzero(~excluded[row].numpy())
            cumulative = np.cumsum(weights(gaps[row, allowed], table, shifted))
            if cumulative[-1] == 0:
                cumulative = np.arange(1.0, len(allowed) + 1.0)
            uniforms = _uniforms(int(users[b]), int(offsets[b + 1] - offsets[b]), key)
            below = np.minimum(uniforms * cumulative[-1], np.nextafter(cumulative[-1], 0))
            samples[offsets[b] : offsets[b + 1]] = allowed[np.searchsorted(cumulative, below, side="right")]
    return samples


def weights(gaps: NDArray[Any], table: NDArray[np.float64], shifted: bool) -> NDArray[np.float64]:
    """Return the weights of rank gaps: ``table`` at ``gap - min gap`` if ``shifted``, else at ``max(gap, 0)``."""
    chosen: NDArray[np.float64] = table[gaps - gaps.min() if shifted else np.maximum(gaps, 0)]
    return chosen


def _ranks(users: Tensor, items: Tensor, excluded: Tensor) -> Tensor:
    """Return Int64[B, N], 0 for the best allowed item; excluded items rank behind all allowed ones."""
    order = rank_order(canonical_scores(users, items, None), excluded)
    return torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))


def _uniforms(user: int, count: int, key: int) -> NDArray[np.float64]:
    """Return the uniforms in (0, 1) of draws 0 to ``count - 1`` of a user."""
    first, second, _, _ = philox4x32((np.arange(count), user & 0xFFFFFFFF, user >> 32, 0), key)
    bits = ((first.astype(np.uint64) >> np.uint64(6)) << np.uint64(26)) | (second.astype(np.uint64) >> np.uint64(6))
    return (bits.astype(np.float64) + 0.5) * 2.0**-52
