"""What a bulk recommendation will cost, said before it is paid."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.evaluation.streaming import check_catalogue, chunk_rows
from fastkd.models.pairs import PairTables
from fastkd.models.protocol import Recommender, Tables
from fastkd.serving.recommend import RecommendOptions

_LIST_BYTES = 32
"""Of an entry of the lists on its way to the file: id, score, decoded ids, rank."""


@dataclass(frozen=True, kw_only=True)
class RecommendPreview:
    """What :func:`fastkd.serving.recommend` will do; all of it by a model, nothing is ranked.

    ``chunk`` users at a time, ``chunks`` times; ``plan`` is the ranking of one chunk. ``seconds`` and ``bytes_moved``:
    of all rankings, without the writing. ``memory_bytes``: held at once beyond the tables and the seen items.
    """

    users: int
    chunk: int
    chunks: int
    seconds: float
    bytes_moved: float
    memory_bytes: int
    plan: ops.TopKExplanation


def preview(
    source: Tables | Recommender,
    users: int,
    *,
    exclude: Interactions | None = None,
    options: RecommendOptions | None = None,
) -> RecommendPreview:
    """Return how ``users`` users of ``source`` would be served.

    ``source``, ``exclude``, ``options``: as in :func:`fastkd.serving.recommend`. Raises ``ConfigError`` for k larger
    than the catalogue and for a model that scores pairs, whose cost is not modelled.
    """
    options = options or RecommendOptions()
    tables = source.frozen_tables() if isinstance(source, Recommender) else source.detach()
    check_catalogue(options.k, tables.num_items)
    if isinstance(tables, PairTables):
        raise ConfigError(
            f"the cost of recommending is modelled for vectors only, and {type(source).__name__} scores pairs; "
            "recommend without a preview (--dry-run)"
        )
    items, dim = tables.items.shape
    masks = [] if exclude is None else [exclude]
    rows = chunk_rows(
        tables, options.k, masks=masks, memory_budget_mb=options.memory_budget_mb, backend=options.backend
    )  # fmt: skip
    chunk = max(1, min(rows, options.chunk or users, users))
    chunks = math.ceil(users / chunk)
    plan = ops.explain_rank_topk(
        chunk,
        items,
        dim,
        options.k,
        dtype=tables.items.dtype,
        device="cuda" if tables.items.is_cuda else "cpu",
        exclude=0.0 if exclude is None else exclude.nnz / max(exclude.num_users, 1),
    )
    share = users / chunk
    held = plan.scratch_bytes + chunk * (options.k * _LIST_BYTES + dim * tables.items.element_size())
    return RecommendPreview(
        users=users, chunk=chunk, chunks=chunks, seconds=share * plan.seconds, bytes_moved=share * plan.bytes_moved,
        memory_bytes=held, plan=plan,
    )  # fmt: skip
