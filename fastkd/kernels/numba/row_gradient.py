"""Row-sparse gradient of a table on the CPU: sort entries by id, sum each run.

Shapes: B vectors, D dimensions, C ids of a vector, R distinct ids. A run is summed by one thread, in the order of
its entries: same bits for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.kernels.numba._arrays import array, compute_dtype, new
from fastkd.kernels.numba._jit import jit
from fastkd.kernels.numba._radix import MAX_ENTRIES, Pairs, segments, sorted_pairs
from fastkd.kernels.numba._threads import run_rows

Floats = NDArray[Any]
Ints = NDArray[Any]


def row_gradient(vectors: Tensor, ids: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows Int64[R] ascending and distinct, values [R, D]); see :func:`fastkd.ops.row_gradient`."""
    dtype = compute_dtype(vectors, coefficients)
    lists = array(ids, ids.dtype)
    limit = int(lists.max(initial=-1)) + 1
    if max(lists.size, limit) > MAX_ENTRIES:
        raise ValueError(f"backend 'numba' sorts at most {MAX_ENTRIES} entries and ids; use backend='reference'")
    pairs = sorted_pairs(lists, limit)
    starts, rows = np.empty(len(pairs) + 1, dtype=np.int64), np.empty(len(pairs), dtype=np.int64)
    count = segments(pairs, starts, rows)
    values = new((count, vectors.shape[1]), dtype)
    work = len(pairs) / max(count, 1) * (8 + 0.5 * vectors.shape[1])
    flat = array(coefficients, dtype).reshape(-1)
    run_rows(_sums, count, work, pairs, starts, array(vectors, dtype), flat, max(lists.shape[1], 1), values)
    return torch.from_numpy(rows[:count]), torch.from_numpy(values)


@jit(fastmath={"contract"})
def _sums(
    pairs: Pairs, starts: Ints, vectors: Floats, coefficients: Floats, width: int, out: Floats, start: int, stop: int
) -> None:
    wide = np.uint32(width)
    for r in range(start, stop):
        row = out[r]
        row[:] = 0
        for j in range(starts[r], starts[r + 1]):
            # The low half of a pair is its entry b C + c; 32-bit division is several times faster.
            entry = np.uint32(pairs[j] & np.uint64(0xFFFFFFFF))
            c, p = coefficients[entry], vectors[entry // wide]
            for d in range(row.shape[0]):
                row[d] += c * p[d]
