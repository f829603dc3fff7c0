"""Exact top-K for models whose score is no inner product: a callback scores the catalogue chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.kernels.reference import score_topk_chunked as reference
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch
from fastkd.ops.rank_topk import TopK, check_exclude, check_k


def score_topk_chunked(
    score_fn: Callable[[Tensor], Tensor],
    num_items: int,
    k: int,
    *,
    batch: int,
    exclude: Interactions | None = None,
    chunk: int = 16384,
    device: str | torch.device = "cpu",
    backend: str = "auto",
) -> TopK:
    """Return the ``k`` best of ``num_items`` items for each of ``batch`` rows, by ``score_fn``.

    Same order as :func:`fastkd.ops.rank_topk`: higher score (rounded to float32) first, then lower id, NaN last. The
    chunk size does not change the result, provided ``score_fn`` gives an item the same score in every chunk.

    Args:
        score_fn: Int64[C] item ids -> Float[batch, C]; called under ``torch.no_grad`` with C <= ``chunk``.
        num_items: size N of the catalogue; ids are 0 to N - 1.
        k: results per row, 0 <= k <= N.
        batch: number of rows.
        exclude: items left out, row b for row b of the scores; never returned, whatever their score.
        chunk: items scored at a time; memory is O(batch (k + chunk)).
        device: where ids are made and scores are expected.
        backend: ``"auto"``, ``"numba"`` (CPU) or ``"reference"`` (anywhere, chunk by chunk too); no Triton kernel:
            beside the model's own scoring a selection of C scores is small.

    Returns:
        :class:`~fastkd.ops.rank_topk.TopK`, padded with id -1 and score -inf; not differentiable.

    Raises:
        TypeError, ValueError: arguments or scores of the wrong shape, dtype or device. BackendError: see ``backend``.
    """
    place = torch.device(device)
    k = _check(num_items, k, batch, exclude, chunk)
    chosen = choose("score_topk_chunked", backend, place.type)
    indptr, indices = (None, None) if exclude is None else exclude.to_torch(place)
    best_scores = torch.full((batch, k), -torch.inf, device=place)
    best_ids = torch.full((batch, k), -1, dtype=torch.int64, device=place)
    with torch.no_grad():
        for first in range(0, num_items if batch and k else 0, chunk):
            items = torch.arange(first, min(first + chunk, num_items), device=place)
            scores = score_fn(items)
            _check_scores(scores, (batch, len(items)), place)
            state = best_scores, best_ids, scores.float(), first, indptr, indices
            if chosen == "reference":
                best_scores, best_ids = reference.score_topk_chunked(*state)
            else:
                best_scores, best_ids = _native(*state, chosen)
    return TopK(best_scores, best_ids)


def _check(num_items: int, k: int, batch: int, exclude: Interactions | None, chunk: int) -> int:
    for name, value, least in (("num_items", num_items, 0), ("batch", batch, 0), ("chunk", chunk, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    k = check_k(k, num_items)
    check_exclude(exclude, batch, num_items)
    return k


def _check_scores(scores: Tensor, shape: tuple[int, int], device: torch.device) -> None:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        got = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
        raise TypeError(f"score_fn must return a floating-point tensor, got {got}")
    if scores.shape != shape:
        raise ValueError(f"score_fn must return [batch, items] = {list(shape)}, got {list(scores.shape)}")
    if scores.device.type != device.type:
        raise ValueError(f"score_fn returned scores on {scores.device}; pass device={str(scores.device)!r}")


def _launch(
    best_scores: Tensor, best_ids: Tensor, scores: Tensor, first: int, indptr: Tensor | None, indices: Tensor | None,
    backend: str,
) -> Any:  # fmt: skip
    launcher = launch("score_topk_chunked", backend, scores.device)
    return launcher(best_scores, best_ids, scores, first, indptr, indices)


def _fake(
    best_scores: Tensor, best_ids: Tensor, scores: Tensor, first: int, indptr: Tensor | None, indices: Tensor | None,
    backend: str,
) -> Any:  # fmt: skip
    return torch.empty_like(best_scores), torch.empty_like(best_ids)


_native = define(
    "score_topk_chunked(Tensor best_scores, Tensor best_ids, Tensor scores, SymInt first, Tensor? indptr,"
    " Tensor? indices, str backend) -> (Tensor, Tensor)",
    implementation=_launch,
    fake=_fake,
)
