"""Draws that are functions of (key, row, slot): pairs of positions, and entries of rows in a random order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastkd.core.philox import philox4x32, uniform_open

MIN_PAIR_TEMPERATURE = 0.5
"""Below, both positions of a pair are nearly always the first, and a pair of two would not come up."""


def draw_pairs(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], n: int, temperature: float, key: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two Int64[B, n]: 0-based positions ``better < worse`` of n pairs per row; -1 for rows shorter than 2.

    Both positions of a pair are drawn with ``p_r ~ exp(-r / temperature)``, r = 1 .. length, by inversion of the
    truncated geometric distribution; a pair of one position twice is drawn again. Pair j in attempt t uses two words
    of the Philox block ``(j, row low, row high, t)``, so it depends on its row's length and nothing else.
    """
    better = np.full((len(rows), n), -1, dtype=np.int64)
    worse = better.copy()
    at, slot = (a.reshape(-1) for a in np.broadcast_arrays(np.flatnonzero(lengths >= 2)[:, None], np.arange(n)))
    attempt = 0
    while len(at):
        ids, longest = rows[at], lengths[at]
        words = philox4x32((slot, ids, ids >> 32, attempt), key)
        first, second = (_inverted(uniform_open(w), longest, temperature) for w in words[:2])
        apart = first != second
        better[at[apart], slot[apart]] = np.minimum(first, second)[apart]
        worse[at[apart], slot[apart]] = np.maximum(first, second)[apart]
        at, slot = at[~apart], slot[~apart]
        attempt += 1
    return better, worse


def shuffled_heads(indptr: NDArray[np.int64], n: int, key: int) -> NDArray[np.int64]:
    """Return Int64[U, n]: the first n entries of each CSR row in a random order that the key fixes; -1 if short.

    The order is by word 0 of the Philox block ``(position in the row, row low, row high, 0)``.
    """
    degrees = np.diff(indptr)
    rows = np.repeat(np.arange(len(degrees)), degrees)
    positions = np.arange(len(rows)) - np.repeat(indptr[:-1], degrees)
    word = philox4x32((positions, rows, rows >> 32, 0), key)[0]
    order = np.lexsort((positions, word, rows))
    slots = np.arange(n)[None, :]
    at = np.minimum(indptr[:-1, None] + slots, max(len(rows) - 1, 0))
    heads = order[at] if len(rows) else np.zeros_like(at)
    return np.where(slots < degrees[:, None], heads, -1)


def _inverted(uniforms: NDArray[np.float64], lengths: NDArray[np.int64], temperature: float) -> NDArray[np.int64]:
    """Return 0-based positions: the smallest r with ``(1 - x^r) / (1 - x^length) >= v``, x = exp(-1 / temperature)."""
    position = -temperature * np.log1p(uniforms * np.expm1(-lengths / temperature))
    # The last bit may lie on either side of a whole number; both ends stay inside the list.
    return np.clip(np.ceil(position).astype(np.int64), 1, lengths) - 1
