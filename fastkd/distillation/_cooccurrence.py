"""The graph of strongest co-occurrences: each entity and the few with which it shares most counterparts.

Sparse from the start: counts are made for a block of entities at a time, never for all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.interactions import Interactions

_PATHS = 1 << 23
"""Paths entity - counterpart - entity walked at a time."""


class Graph(NamedTuple):
    """A symmetric normalised graph as CSR: offsets Int64[N + 1], neighbours Int64[E], weights Float32[E]."""

    offsets: Tensor
    neighbours: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Graph:
        """Return the graph on ``device``."""
        return Graph(*(part.to(device) for part in self))


def cooccurrence_graph(seen: Interactions, strongest: int, tell: Callable[[int, int], None] | None = None) -> Graph:
    """Return ``D^-1/2 (W + W^T) / 2 D^-1/2`` of the entities that are the rows of ``seen``.

    ``W_ij = 1`` where j is among the ``strongest`` entities that share most counterparts with i (ties: lower id; itself
    left out). D: row sums of ``(W + W^T) / 2``. An entity that shares nothing has an empty row. ``tell`` hears
    (entities done, all) after each block.
    """
    count = seen.num_users
    sources, targets = [], []
    for stop, source, target in _strongest(seen, strongest):
        sources.append(source)
        targets.append(target)
        if tell is not None:
            tell(stop, count)
    source, target = (np.concatenate(part) if part else np.zeros(0, np.int64) for part in (sources, targets))
    # Each directed edge both ways with 1/2; an edge that exists both ways adds up to 1.
    keys = np.concatenate([source * count + target, target * count + source])
    keys, times = np.unique(keys, return_counts=True)
    rows, columns = np.divmod(keys, max(count, 1))
    values = 0.5 * times
    degrees = np.bincount(rows, weights=values, minlength=count)
    scale = 1.0 / np.sqrt(np.maximum(degrees, 0.5))
    offsets = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=count), out=offsets[1:])
    weights = (values * scale[rows] * scale[columns]).astype(np.float32)
    return Graph(torch.from_numpy(offsets), torch.from_numpy(columns), torch.from_numpy(weights))


def _strongest(seen: Interactions, strongest: int) -> Any:
    """Yield (entities done, entity, neighbour), Int64 arrays of the strongest co-occurrences, block by block."""
    from scipy import sparse

    met = sparse.csr_array(
        (np.ones(seen.nnz, dtype=np.int32), seen.indices, seen.indptr), shape=(seen.num_users, seen.num_items)
    )
    back = met.T.tocsr()
    ends = np.concatenate([[0], np.cumsum(np.diff(back.indptr)[seen.indices], dtype=np.int64)])
    walked = ends[seen.indptr]  # paths that start at entities before each one
    start, count = 0, seen.num_users
    while start < count:
        stop = int(np.searchsorted(walked, walked[start] + _PATHS, side="right")) - 1
        stop = min(max(stop, start + 1), count)
        yield stop, *_block((met[start:stop] @ back).tocoo(), start, count, strongest)
        start = stop


def _block(shared: Any, start: int, count: int, strongest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the strongest of the counts [rows from ``start``, all entities], a row's own left out."""
    rows, columns = (np.asarray(ids, dtype=np.int64) for ids in shared.coords)
    other = rows + start != columns
    rows, columns, times = rows[other], columns[other], shared.data[other].astype(np.int64)
    most = int(times.max(initial=0))
    # A row's neighbours: most shared first, then the lower id. One key sorts them, where it fits.
    if (int(rows.max(initial=0)) + 1) * (most + 1) * count < 1 << 63:
        keys = np.sort((rows * (most + 1) + (most - times)) * count + columns)
        rows, columns = keys // count // (most + 1), keys % count
    else:
        order = np.lexsort((columns, -times, rows))
        rows, columns = rows[order], columns[order]
    kept = np.arange(len(rows)) - np.searchsorted(rows, rows) < strongest
    return rows[kept] + start, columns[kept]


def rows_of(graph: Graph, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sub-graph's offsets Int64[n + 1] and the edges Int64[e] that belong to ``rows``; on the CPU."""
    starts = graph.offsets[rows]
    sizes = graph.offsets[rows + 1] - starts
    offsets = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    edges = torch.arange(int(offsets[-1])) + torch.repeat_interleave(starts - offsets[:-1], sizes)
    return offsets, edges
