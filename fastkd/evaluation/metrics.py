"""Top-K metrics from ranked lists, or from the ranks of the targets alone; per user, in float64.

Notation: user ``u`` has the ranked list ``i_1 .. i_K`` (best first) and the target set ``T_u``;
``hit_r = 1 if i_r in T_u else 0``; gains are binary.

=============  ====================================================================================
recall@K       ``sum_{r<=K} hit_r / |T_u|``
precision@K    ``sum_{r<=K} hit_r / K`` (a list shorter than K still divides by K)
hr@K           ``1 if any hit_r with r <= K else 0``
mrr@K          ``1 / r`` of the first hit if ``r <= K``, else 0
ndcg@K         ``DCG / IDCG``, ``DCG = sum_{r<=K} hit_r / log2(r + 1)``,
               ``IDCG = sum_{r <= min(K, |T_u|)} 1 / log2(r + 1)``
map@K          ``1 / min(K, |T_u|) * sum_{r<=K} hit_r * precision@r``
=============  ====================================================================================

``min(K, |T_u|)`` in map@K lets a perfect list reach 1. The retrieval tools (trec_eval, ranx) divide
by ``|T_u|`` instead: multiply by ``min(K, |T_u|) / |T_u|`` to compare with them.

Every one is a function of the ranks of the targets: with ``r_1 < r_2 < ...`` those that are at most K, the sums over
hits are sums over j of ``1``, ``1 / log2(r_j + 1)`` and ``j / r_j``. So ranks give the same bits as lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fastkd.core.errors import ConfigError, DataError, did_you_mean
from fastkd.core.interactions import Interactions

METRICS = ("recall", "ndcg", "hr", "mrr", "map", "precision")
"""Known metric names."""

Denominator = Literal["users_with_targets", "all_users"]
Floats = NDArray[np.float64]
Ranks = NDArray[np.int64]

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class UserMetrics:
    """Metrics of each row of ``ids``.

    ``values``: name such as ``"ndcg@10"`` -> Float64[B], 0 where a user has no targets (the metric is
    undefined there); ``has_targets``: Bool[B].
    """

    values: Mapping[str, Floats]
    has_targets: NDArray[np.bool_]

    def mean(self, denominator: Denominator = "users_with_targets") -> dict[str, float]:
        """Return the mean of each metric over the users with targets, or over all rows.

        ``"all_users"`` is the convention that counts a user without targets as zero. The mean over no
        users is NaN.
        """
        count = int(self.has_targets.sum()) if denominator == "users_with_targets" else len(self.has_targets)
        return {name: float(v.sum() / count) if count else float("nan") for name, v in self.values.items()}


def metrics_from_lists(
    ids: Tensor | NDArray[Any],
    targets: Interactions,
    ks: Sequence[int] = (10, 20),
    metrics: Sequence[str] = METRICS,
) -> UserMetrics:
    """Return the metrics of ranked lists; formulas in the module's docstring.

    ``ids``: Int[B, K], best first, -1 where there is no item; a -1 takes a rank and never hits. ``targets``: B rows,
    row b holds the relevant items of row b of ``ids``. ``ks``: cut-offs, each at most K. ``metrics``: names from
    :data:`METRICS`.

    Raises ``ConfigError`` for an unknown metric or a cut-off that is not in ``[1, K]``; ``DataError`` where
    shapes disagree, an id lies outside ``[-1, num_items)``, or an item stands twice in one list.
    """
    lists = _checked_lists(ids, targets)
    check_metrics(metrics)
    check_ks(ks)
    if max(ks) > lists.shape[1]:
        raise ConfigError(f"cut-off {max(ks)} needs lists of that length, these hold {lists.shape[1]} items")
    hits = hits_in(lists[:, : max(ks)], targets)
    degrees = targets.degrees()
    values = {f"{metric}@{k}": _METRIC[metric](hits[:, :k], degrees) for metric in metrics for k in ks}
    return UserMetrics(values, degrees > 0)


def metrics_from_ranks(
    ranks: Tensor | NDArray[Any],
    targets: Interactions,
    ks: Sequence[int] = (10, 20),
    metrics: Sequence[str] = METRICS,
) -> UserMetrics:
    """Return the metrics of :func:`metrics_from_lists` from the targets' ranks alone, to the bit, for any cut-off.

    ``ranks``: Int[B, C], the ranks of the targets of each row in any order, 1 = best (:func:`fastkd.ops.rank_of`); 0
    for padding and for a target that cannot be recommended. ``targets``: B rows; they say how many targets there are.
    ``ks``, ``metrics``: as for lists, but no list bounds the cut-offs.

    Raises ``ConfigError`` for an unknown metric or a cut-off that is not positive; ``DataError`` where shapes disagree,
    a rank is negative, two targets of a row share one, or a row has more ranks than targets.
    """
    sorted_ranks = _checked_ranks(ranks, targets)
    check_metrics(metrics)
    check_ks(ks)
    degrees = targets.degrees()
    values = {
        f"{metric}@{k}": _FROM_RANKS[metric](np.where(sorted_ranks <= k, sorted_ranks, 0), degrees, k)
        for metric in metrics
        for k in ks
    }
    return UserMetrics(values, degrees > 0)


def hits_in(ids: NDArray[Any], targets: Interactions) -> NDArray[np.bool_]:
    """Return Bool[B, K]: whether each listed item is a target of its row. One binary search per entry."""
    rows = np.arange(len(ids), dtype=np.int64)[:, None]
    keys = targets.entry_users().astype(np.int64) * targets.num_items + targets.indices
    wanted = rows * targets.num_items + ids.astype(np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    # Padding is masked by itself: row r's -1 has the key of row r-1's last item.
    return (keys[at] == wanted) & (ids >= 0) if len(keys) else np.zeros(ids.shape, dtype=bool)


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse an empty list and unknown names."""
    if not metrics:
        raise ConfigError(f"metrics is empty; known: {', '.join(METRICS)}")
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(f"unknown metric {metric!r}.{did_you_mean(metric, METRICS)} Known: {', '.join(METRICS)}")


def check_ks(ks: Sequence[int]) -> None:
    """Refuse an empty list and cut-offs that are no positive integers."""
    if not ks:
        raise ConfigError("ks is empty; give at least one cut-off, such as (10,)")
    for k in ks:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ConfigError(f"cut-off {k!r} is not a positive integer")


def _checked_lists(ids: Tensor | NDArray[Any], targets: Interactions) -> NDArray[np.int64]:
    array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise DataError(f"ids must be integers of shape [users, K], got {array.dtype} of shape {array.shape}")
    if len(array) != targets.num_users:
        raise DataError(f"{len(array)} ranked lists but targets of {targets.num_users} users")
    lists = array.astype(np.int64, copy=False)
    outside = (lists < -1) | (lists >= targets.num_items)
    if outside.any():
        row = int(np.argmax(outside.any(axis=1)))
        raise DataError(f"list {row} holds item {lists[row][outside[row]][0]}, outside [0, {targets.num_items})")
    ordered = np.sort(lists, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        row = int(np.argmax(twice.any(axis=1)))
        raise DataError(f"list {row} holds item {ordered[row, 1:][twice[row]][0]} twice")
    return lists


def _checked_ranks(ranks: Tensor | NDArray[Any], targets: Interactions) -> NDArray[np.int64]:
    """Return the ranks sorted by row, padding last as the largest integer."""
    array = ranks.detach().cpu().numpy() if isinstance(ranks, Tensor) else np.asarray(ranks)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise DataError(f"ranks must be integers of shape [users, C], got {array.dtype} of shape {array.shape}")
    if len(array) != targets.num_users:
        raise DataError(f"{len(array)} rows of ranks but targets of {targets.num_users} users")
    wrong = (array < 0).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"row {row} holds the rank {array[row].min()}; ranks start at 1, and 0 is padding")
    many = (array > 0).sum(axis=1) > targets.degrees()
    if many.any():
        row = int(np.argmax(many))
        raise DataError(f"row {row} has {(array[row] > 0).sum()} ranks for {targets.degrees()[row]} targets")
    ordered = np.sort(np.where(array > 0, array.astype(np.int64), _NEVER), axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] < _NEVER)
    if twice.any():
        row = int(np.argmax(twice.any(axis=1)))
        raise DataError(f"row {row} holds the rank {ordered[row, 1:][twice[row]][0]} twice")
    return ordered


def _over(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Divide in float64, with 0 where the denominator is 0 (users without targets)."""
    out: Floats = np.zeros(len(numerator))
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _discounts(k: int) -> Floats:
    discounts: Floats = 1.0 / np.log2(np.arange(2, k + 2, dtype=np.float64))
    return discounts


def _recall(hits: NDArray[np.bool_], degrees: NDArray[np.int64]) -> Floats:
    return _over(hits.sum(axis=1), degrees)


def _precision(hits: NDArray[np.bool_], degrees: NDArray[np.int64]) -> Floats:
    return _over(hits.sum(axis=1), np.full(len(hits), hits.shape[1]))


def _hr(hits: NDArray[np.bool_], degrees: NDArray[np.int64]) -> Floats:
    return np.asarray(hits.any(axis=1), dtype=np.float64)


def _mrr(hits: NDArray[np.bool_], degrees: NDArray[np.int64]) -> Floats:
    first = np.asarray(hits.argmax(axis=1)) + 1
    return _over(np.asarray(hits.any(axis=1)), first)


def _ndcg(hits: NDArray[np.bool_], degrees: NDArray[np.int64]) -> Floats:
    k = hits.shape[1]
    # cumsum for both sums: same order of additions, so a perfect list is exactly 1.
    gained = np.cumsum(np.where(hits, _discounts(k), 0.0), axis=1)[:, -1]
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(k))])
    return _over(gained, ideal[np.minimum(degrees, k)])


def _map(hits: NDArray[np.bool_], degrees: NDArray[np.int64]) -> Floats:
    k = hits.shape[1]
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1, dtype=np.float64)
    # In order, as in every sum here: zeros between the hits then leave no trace.
    return _over(np.cumsum(np.where(hits, precisions, 0.0), axis=1)[:, -1], np.minimum(degrees, k))


_METRIC = {"recall": _recall, "ndcg": _ndcg, "hr": _hr, "mrr": _mrr, "map": _map, "precision": _precision}


def _last(sums: NDArray[Any]) -> NDArray[Any]:
    """Return the last column, 0 where there is none."""
    return sums[:, -1] if sums.shape[1] else np.zeros(len(sums))


# From ranks: Int64[B, C] of the hits within k, ascending, then zeros.


def _rank_recall(ranks: Ranks, degrees: Ranks, k: int) -> Floats:
    return _over((ranks > 0).sum(axis=1), degrees)


def _rank_precision(ranks: Ranks, degrees: Ranks, k: int) -> Floats:
    return _over((ranks > 0).sum(axis=1), np.full(len(ranks), k))


def _rank_hr(ranks: Ranks, degrees: Ranks, k: int) -> Floats:
    return np.asarray((ranks > 0).any(axis=1), dtype=np.float64)


def _rank_mrr(ranks: Ranks, degrees: Ranks, k: int) -> Floats:
    first = ranks[:, 0] if ranks.shape[1] else np.zeros(len(ranks), dtype=np.int64)
    return _over(np.ones(len(ranks)), first)


def _rank_ndcg(ranks: Ranks, degrees: Ranks, k: int) -> Floats:
    discounts = np.concatenate([[0.0], _discounts(k)])
    ideal = np.concatenate([[0.0], np.cumsum(_discounts(k))])
    return _over(_last(np.cumsum(discounts[ranks], axis=1)), ideal[np.minimum(degrees, k)])


def _rank_map(ranks: Ranks, degrees: Ranks, k: int) -> Floats:
    precisions = np.zeros(ranks.shape)
    np.divide(np.arange(1, ranks.shape[1] + 1), ranks, out=precisions, where=ranks > 0)
    return _over(_last(np.cumsum(precisions, axis=1)), np.minimum(degrees, k))


_FROM_RANKS = {
    "recall": _rank_recall,
    "ndcg": _rank_ndcg,
    "hr": _rank_hr,
    "mrr": _rank_mrr,
    "map": _rank_map,
    "precision": _rank_precision,
}
