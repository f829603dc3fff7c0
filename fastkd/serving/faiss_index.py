"""An index of item vectors for nearest-neighbour search, by faiss, an optional dependency."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.serving._folder import Part, path_of

EXACT = "Flat"
"""The factory string of an index that compares with every item."""


def check_faiss(factory: str, dim: int) -> None:
    """Refuse to make an index without faiss, or one that faiss does not know."""
    _made(factory, dim)


def index_part(items: Tensor, factory: str) -> Part:
    """Return the file that holds an inner-product index of ``items`` Float[N, D], made by faiss from ``factory``."""
    about = {"factory": factory, "metric": "inner product", "ids": "item rows"}
    return Part(".index", partial(_save, items, factory), about)


def load_index(folder: Path | str, *, verify: bool = True) -> Any:
    """Return the faiss index of an export folder: ``scores, rows = index.search(vectors, k)``.

    ``vectors`` float32[B, D], from the tables or the tower. ``"Flat"`` is exact: the items and, to the rounding of
    float32 sums, the scores of :func:`fastkd.ops.rank_topk`; which of equal scores comes first is faiss's choice. Seen
    items are the caller's to leave out.

    Raises ``CheckpointError`` for a folder without it and a file that is missing, truncated or altered; ``ConfigError``
    where faiss is not installed.
    """
    faiss = _faiss()
    path = path_of(Path(folder), "faiss", verify=verify)
    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        raise CheckpointError(f"{path} is no index that faiss {faiss.__version__} can read: {error}") from error


def _save(items: Tensor, factory: str, path: Path) -> None:
    index = _made(factory, items.shape[1])
    vectors = items.detach().to("cpu", torch.float32).contiguous().numpy()
    try:
        if not index.is_trained:
            index.train(vectors)
        index.add(vectors)
        _faiss().write_index(index, str(path))
    except RuntimeError as error:
        raise ConfigError(f"faiss cannot make the index {factory!r} of {len(items)} items: {error}") from error


def _made(factory: str, dim: int) -> Any:
    faiss = _faiss()
    try:
        return faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(f"faiss knows no index {factory!r} of vectors {dim} wide; {EXACT!r} is exact") from error


def _faiss() -> Any:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise ConfigError(f"an index needs faiss ({error}): pip install 'fastkd[faiss]'") from error
