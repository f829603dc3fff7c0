"""Ranked lists of many users in bounded memory: the sweep that evaluation and serving share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fastkd import ops
from fastkd.core.errors import ConfigError, TeacherError
from fastkd.core.interactions import Interactions
from fastkd.models.pairs import PairTables
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher
from fastkd.ops._dispatch import choose

Source = Tables | Recommender | Teacher
"""What can be ranked with."""

_MAX_CHUNK = 65536


def iter_topk(
    tables: Tables,
    users: NDArray[np.int64],
    k: int,
    *,
    masks: Sequence[Interactions] = (),
    memory_budget_mb: int = 256,
    backend: str = "auto",
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]]:
    """Yield ``(users Int64[B], ids Int64[B, k], scores Float32[B, k])`` in chunks that fit the budget.

    ``masks`` hold, for every user of the tables, items that are not ranked. Rows short of items end in
    id -1, score -inf. Results are on the CPU.
    """
    rows = chunk_rows(tables, k, masks=masks, memory_budget_mb=memory_budget_mb, backend=backend)
    for start in range(0, len(users), rows):
        chunk = users[start : start + rows]
        with torch.no_grad():
            asked = torch.from_numpy(chunk).to(tables.device)
            top = tables.topk(asked, k, exclude=_mask_rows(masks, chunk), backend=backend)
        yield chunk, top.ids.cpu(), top.scores.cpu()


def iter_ranks(
    tables: Tables,
    users: NDArray[np.int64],
    targets: Interactions,
    *,
    masks: Sequence[Interactions] = (),
    memory_budget_mb: int = 256,
    backend: str = "auto",
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield ``(users Int64[B], ranks Int64[B, C])``: the ranks of each user's targets among the items not masked.

    ``targets`` and ``masks`` have a row for every user of the tables. C is the largest number of targets in a chunk; 0
    is padding, and stands for targets that are masked themselves. Results are on the CPU.
    """
    options = {"masks": masks, "memory_budget_mb": memory_budget_mb, "backend": backend}
    widest = int(targets.degrees()[users].max(initial=1))
    rows = chunk_rows(tables, widest, op="rank_of", **options)  # type: ignore[arg-type]
    for start in range(0, len(users), rows):
        chunk = users[start : start + rows]
        wanted, mask = targets.rows(chunk), _mask_rows(masks, chunk)
        ids = np.full((len(chunk), int(wanted.degrees().max(initial=0))), -1, dtype=np.int64)
        entry_users = wanted.entry_users().astype(np.int64)
        ids[entry_users, np.arange(wanted.nnz) - wanted.indptr[entry_users]] = wanted.indices
        with torch.no_grad():
            vectors = tables.user_vectors(torch.from_numpy(chunk).to(tables.users.device))
            asked = torch.from_numpy(ids).to(vectors.device)
            ranks = ops.rank_of(vectors, tables.items, asked, exclude=mask, validate=False, backend=backend).cpu()
        if mask is not None and wanted.nnz:
            hidden = mask.contains(entry_users, wanted.indices)
            columns = np.arange(wanted.nnz) - wanted.indptr[entry_users]
            ranks[torch.from_numpy(entry_users[hidden]), torch.from_numpy(columns[hidden])] = 0
        yield chunk, ranks


def chunk_rows(
    tables: Tables,
    k: int,
    *,
    masks: Sequence[Interactions] = (),
    memory_budget_mb: int = 256,
    backend: str = "auto",
    op: str = "rank_topk",
) -> int:
    """Return how many users ``op`` ranks at once within the budget, with lists or targets of length ``k``; at least 1.

    The fused backends hold a user's vector, its list and its mask; the reference backend also holds a
    score per item (counted three times: scores, masked scores, and what the selection needs).
    """
    masked = sum(mask.nnz / max(mask.num_users, 1) for mask in masks)
    if isinstance(tables, PairTables):  # bounds its own scoring
        return int(min(max(memory_budget_mb * 2**20 // (128.0 * k + 48.0 * masked), 1), _MAX_CHUNK))
    items, dim = tables.items.shape
    per_user = dim * max(tables.users.element_size(), 4) + 128.0 * k + 48.0 * masked
    if choose(op, backend, tables.items.device.type) == "reference":
        per_user += 12.0 * items
    return int(min(max(memory_budget_mb * 2**20 // per_user, 1), _MAX_CHUNK))


def check_catalogue(k: int, num_items: int) -> None:
    """Refuse a list longer than the catalogue."""
    if k > num_items:
        raise ConfigError(f"K = {k} is larger than the catalogue of {num_items} items; use K <= {num_items}")


def tables_of(source: Source) -> Tables | None:
    """Return the frozen tables of a source, or None for a teacher that holds lists only."""
    if isinstance(source, Tables):
        return source.detach()
    if isinstance(source, Recommender):
        return source.frozen_tables()
    if isinstance(source, Teacher):
        try:
            return source.tables()
        except TeacherError:
            return None
    raise TypeError(f"cannot rank with a {type(source).__name__}; give Tables, a Recommender or a Teacher")


def _mask_rows(masks: Sequence[Interactions], users: NDArray[np.int64]) -> Interactions | None:
    merged: Interactions | None = None
    for mask in masks:
        rows = mask.rows(users)
        merged = rows if merged is None else merged.union(rows)
    return merged
