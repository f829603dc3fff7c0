"""Filters over an interaction log: rating threshold, repeated pairs, k-core. File order is kept."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastkd.core.errors import ConfigError, DataError
from fastkd.data.log import InteractionLog, ways_to_set

Duplicates = Literal["first", "latest", "refuse"]


def threshold(log: InteractionLog, min_rating: float) -> InteractionLog:
    """Keep rows with ``rating >= min_rating``: explicit ratings to implicit feedback.

    Raises ``DataError`` when the log has no ratings, one is missing, or nothing is left.
    """
    if log.rating is None:
        raise DataError(
            f"{log.source}: min_rating={min_rating} but there is no rating column; name it: {ways_to_set('rating')}"
        )
    missing = np.isnan(log.rating)
    if missing.any():
        raise DataError(
            f"{log.source}: {int(missing.sum())} missing rating(s), first in {log.row_name(int(np.argmax(missing)))}"
        )
    kept = log.rating >= min_rating
    if not kept.any():
        raise DataError(
            f"{log.source}: no row has rating >= {min_rating}; ratings are {log.rating.min()} to {log.rating.max()}"
        )
    return log.take(kept)


def deduplicate(log: InteractionLog, *, keep: Duplicates = "first") -> InteractionLog:
    """Keep one row of each repeated (user, item) pair.

    ``keep="first"``: the first in file order; ``"latest"``: the one with the largest time, the last in file order
    among equal times; ``"refuse"``: raise ``DataError`` naming the first repeated pair.
    """
    users, items = log.users.codes, log.items.codes
    if keep == "latest":
        time = times_of(log, "duplicates='latest'")
        # reversed file order, so that the last of equal times comes first in its group
        order = np.lexsort((np.arange(len(log))[::-1], -_ranks(time), items, users))
    elif keep in ("first", "refuse"):
        order = np.lexsort((items, users))
    else:
        raise ConfigError(f"duplicates must be 'first', 'latest' or 'refuse', got {keep!r}")
    repeated = np.zeros(len(log), dtype=bool)
    repeated[1:] = (users[order][1:] == users[order][:-1]) & (items[order][1:] == items[order][:-1])
    if not repeated.any():
        return log
    if keep == "refuse":
        row = int(order[repeated].min())
        pair = log.take(np.array([row]))
        raise DataError(
            f"{log.source}, {log.row_name(row)}: user {pair.user[0].item()!r} and item {pair.item[0].item()!r} "
            f"appear before ({int(repeated.sum())} repeated rows); use duplicates='first' or 'latest'"
        )
    return log.take(np.sort(order[~repeated]))


def k_core(log: InteractionLog, *, user_core: int = 1, item_core: int = 1) -> InteractionLog:
    """Keep the largest part in which every user has >= user_core rows and every item >= item_core rows.

    Iterated to the fixed point, which is unique. Repeated pairs count each time: deduplicate first.
    Raises ``DataError`` when nothing is left.
    """
    if user_core < 1 or item_core < 1:
        raise ConfigError(f"user_core and item_core must be at least 1, got {user_core} and {item_core}")
    if user_core == item_core == 1:
        return log
    (users, user_map), (items, item_map) = log.users.compact(), log.items.compact()
    rows = np.arange(len(log))
    while len(rows):
        enough_users = np.bincount(users, minlength=len(user_map)) >= user_core
        enough_items = np.bincount(items, minlength=len(item_map)) >= item_core
        kept = enough_users[users] & enough_items[items]
        if kept.all():
            return log.take(rows)
        rows, users, items = rows[kept], users[kept], items[kept]
    raise DataError(
        f"{log.source}: no user-item core with user_core={user_core} and item_core={item_core} in {len(log)} rows "
        f"of {len(user_map)} users and {len(item_map)} items; use smaller cores"
    )


def times_of(log: InteractionLog, need: str) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return the time column; ``DataError`` naming ``need`` when it is absent or has gaps."""
    if log.time is None:
        raise DataError(f"{log.source}: {need} needs a time column; name it: {ways_to_set('time')}")
    if log.time.dtype.kind == "f" and np.isnan(log.time).any():
        missing = np.isnan(log.time)
        raise DataError(
            f"{log.source}: {need} needs a time in every row, {int(missing.sum())} are missing, "
            f"first in {log.row_name(int(np.argmax(missing)))}"
        )
    return log.time


def _ranks(time: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
    return np.unique(time, return_inverse=True)[1].astype(np.int64)
