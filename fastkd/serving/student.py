"""A trained model exported: what other systems serve it with.

| part | file | for |
| --- | --- | --- |
| ``vectors`` | tables, safetensors | models whose score is an inner product |
| ``tower`` | torch.export program: user id, or history -> user vector | the same |
| ``faiss`` | faiss index of the item vectors | the same |
| ``weights`` | parameters, safetensors | all |
| ``scorer`` | torch.export program: user id, item ids -> scores | models that score pairs |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkd.core.errors import ConfigError, DataError, did_you_mean
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import IdMap
from fastkd.models.pairs import PairRecommender
from fastkd.models.protocol import Recommender
from fastkd.serving._folder import INNER_PRODUCT, OF_PAIRS, OF_VECTORS, PAIRS, Part
from fastkd.serving.export import Export, save_export
from fastkd.serving.faiss_index import EXACT, check_faiss, index_part
from fastkd.serving.programs import program_part

PARTS = ("weights", "vectors", "tower", "faiss", "scorer")


def export_student(
    model: Recommender,
    folder: Path | str,
    *,
    user_ids: IdMap,
    item_ids: IdMap,
    seen: Interactions | None = None,
    parts: Sequence[str] | None = None,
    index: str | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``parts`` of a trained model, with id maps, seen items and ``metadata``; return the folder.

    ``parts``: of :data:`PARTS`; None takes all that the model has but ``faiss``, which is optional. ``index``: faiss's
    factory string, which asks for that part; without it the part ``faiss`` is ``"Flat"``, exact. The folder and what
    goes wrong are as in :func:`fastkd.serving.save_export`; read it with ``load_export``, ``load_program`` and
    ``load_index``, each of which ranks as the model does.

    Raises ``ConfigError`` for a part that is not known or that the model has not.
    """
    wanted = chosen_parts(model, parts, indexed=index is not None)
    if (len(user_ids), len(item_ids)) != (model.num_users, model.num_items):
        raise DataError(
            f"id maps hold {len(user_ids)} users and {len(item_ids)} items, "
            f"the model {model.num_users} and {model.num_items}"
        )
    tables = None if isinstance(model, PairRecommender) else model.frozen_tables()
    extras: dict[str, Part] = {}
    if "faiss" in wanted:
        assert tables is not None
        factory = EXACT if index is None else index
        check_faiss(factory, tables.items.shape[1])
        extras["faiss"] = index_part(tables.items, factory)
    if "tower" in wanted:
        extras["tower"] = program_part(model.user_tower())
    if isinstance(model, PairRecommender) and "scorer" in wanted:
        extras["scorer"] = program_part(model.pair_scorer())
    export = Export(
        tables if "vectors" in wanted else None,
        user_ids,
        item_ids,
        seen,
        metadata or {},
        # An export has vectors, weights or both.
        model.state_dict() if "weights" in wanted or "vectors" not in wanted else None,
        score=PAIRS if tables is None else INNER_PRODUCT,
        dim=None if tables is None else tables.items.shape[1],
    )
    return save_export(export, folder, extras=extras)


def chosen_parts(model: Recommender, parts: Sequence[str] | None, *, indexed: bool = False) -> tuple[str, ...]:
    """Return the parts to write, ``indexed`` with ``faiss``; refuse what is not known or what the model has not."""
    pairs = isinstance(model, PairRecommender)
    possible = OF_PAIRS if pairs else OF_VECTORS
    if parts is None:
        parts = tuple(part for part in possible if part != "faiss")
    asked = (*parts, "faiss") if indexed and parts else tuple(parts)
    for part in asked:
        if part not in PARTS:
            raise ConfigError(f"unknown part {part!r} of an export.{did_you_mean(part, PARTS)}")
        if part not in possible:
            why = (
                f"{type(model).__name__} scores pairs and has no user and item vectors"
                if pairs
                else f"{type(model).__name__} ranks by the inner product of vectors"
            )
            raise ConfigError(f"{part} cannot be exported: {why}. Possible: {', '.join(possible)}")
    if not asked:
        raise ConfigError(f"no parts to export; possible: {', '.join(possible)}")
    return tuple(dict.fromkeys(asked))
