"""Driver of ``callgrind.py --numba``: one numba loop on fixed inputs, ``repeats`` times, in a process without torch.

python benchmarks/callgrind_numba.py LOOP REPEATS      prints the numbers that one repeat goes through
"""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np

from fastkd.kernels.numba._listnet import listnet_row
from fastkd.kernels.numba._relaxed_ranking import relaxed_ranking_row
from fastkd.kernels.numba._select import select_smallest
from fastkd.kernels.numba._topk_filter import _scan_row

ROWS, RANKED, UNRANKED, WIDTH, K = 64, 40, 200, 8192, 100


@numba.njit(cache=True)
def relaxed_ranking(scores: Any, out: Any, memory: Any, none: Any, repeats: int) -> float:
    """Loss and gradient of every row."""
    total = 0.0
    for _ in range(repeats):
        for b in range(ROWS):
            ranked, unranked = scores[b, :RANKED], scores[b, RANKED:]
            total += relaxed_ranking_row(ranked, unranked, none, False, True, out[b, :RANKED], out[b, RANKED:], memory)
    return total


@numba.njit(cache=True)
def listnet(scores: Any, teacher: Any, out: Any, memory: Any, repeats: int) -> float:
    """Loss and gradient of every row."""
    total = 0.0
    for _ in range(repeats):
        for b in range(ROWS):
            total += listnet_row(scores[b], teacher[b], 1.0, True, out[b], memory)
    return total


@numba.njit(cache=True)
def filtered(tile: Any, worst: Any, keys: Any, counts: Any, limits: Any, repeats: int) -> int:
    """Scan the scores of a tile against a threshold that few exceed."""
    total = 0
    for _ in range(repeats):
        for b in range(len(tile)):
            counts[b] = 1  # not the first tile: the threshold stands
            _scan_row(tile[b], 0, K, 1e-4, b, worst, keys[b], counts, limits)
            total += counts[b]
    return total


@numba.njit(cache=True)
def selected(keys: Any, memory: Any, repeats: int) -> int:
    """Move the K smallest of each row to the front."""
    total = 0
    for _ in range(repeats):
        for b in range(len(keys)):
            memory[:] = keys[b]
            select_smallest(memory, len(memory), K)
            total += int(memory[0] & np.uint64(1))
    return total


def run(loop: str, repeats: int) -> int:
    """Run a loop; return how many numbers one repeat goes through."""
    random = np.random.default_rng(0)
    listed = random.standard_normal((ROWS, RANKED + UNRANKED)).astype(np.float32)
    tile = random.standard_normal((8, WIDTH)).astype(np.float32)
    if loop == "relaxed_ranking":
        none, memory = np.empty(0, np.float32), np.empty((4, UNRANKED + 1))
        relaxed_ranking(listed, np.empty_like(listed), memory, none, repeats)
        return int(listed.size)
    if loop == "listnet":
        listnet(
            listed, listed[::-1].copy(), np.empty_like(listed), np.empty((4, listed.shape[1]), listed.dtype), repeats
        )
        return int(listed.size)
    if loop == "rank_topk_filter":
        worst, keys = np.full(len(tile), 2.8, np.float32), np.zeros((len(tile), 4 * K), np.uint64)
        counts, limits = np.ones(len(tile), np.int64), np.full(len(tile), 4 * K, np.int64)
        filtered(tile, worst, keys, counts, limits, repeats)
        return int(tile.size)
    keys = random.integers(0, 1 << 62, (8, 1000)).astype(np.uint64)
    selected(keys, np.empty(1000, np.uint64), repeats)
    return int(keys.size)


if __name__ == "__main__":
    print(run(sys.argv[1], int(sys.argv[2])))
