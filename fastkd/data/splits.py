"""Splits: each row of dense (user, item) pairs gets a part, 0 = train, 1 = valid, 2 = test.

Draws are a pure function of (seed, user, item) in dense ids: file order and thread count do not matter. Dense ids
follow the sorted originals: a user or an item that is added moves the draws of those that sort behind it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastkd.core.errors import ConfigError, DataError
from fastkd.core.philox import philox4x32
from fastkd.core.seeds import Seeds
from fastkd.data.log import IdColumn

TRAIN, VALID, TEST = 0, 1, 2
PARTS = ("train", "valid", "test")
LABELS = {
    "train": TRAIN,
    "training": TRAIN,
    "valid": VALID,
    "validation": VALID,
    "val": VALID,
    "dev": VALID,
    "test": TEST,
    "testing": TEST,
}
Parts = NDArray[np.int8]
Ratios = tuple[float, float, float]


def check_ratios(ratios: Ratios) -> None:
    """Refuse ratios that are negative, do not sum to 1, or leave nothing for training."""
    if len(ratios) != 3 or any(not 0 <= r <= 1 for r in ratios) or abs(sum(ratios) - 1) > 1e-6 or ratios[0] <= 0:
        raise ConfigError(f"ratios must be (train > 0, valid >= 0, test >= 0) with sum 1, got {ratios}")


def random_split(users: NDArray[np.int64], items: NDArray[np.int64], *, ratios: Ratios, seeds: Seeds) -> Parts:
    """Cut each user's rows, in random order, at floor(n r_train), at least 1, and floor(n (r_train + r_valid)).

    ``users``, ``items`` int64[n] dense ids, pairs distinct.
    """
    check_ratios(ratios)
    order = np.lexsort((draw_keys(users, items, seeds.key("split")), users))
    return _cut(users, order, ratios)


def temporal_split(
    users: NDArray[np.int64], time: NDArray[np.int64] | NDArray[np.float64], *, ratios: Ratios, per_user: bool = False
) -> Parts:
    """Cut by time: at two moments for everybody, or each user's own sequence at the ratios.

    Globally the moments are the times of the rows at the quantiles r_train and r_train + r_valid; rows of the same
    time stay together, in the later part. Per user, ties in time are in file order.
    """
    check_ratios(ratios)
    if per_user:
        return _cut(users, np.lexsort((time, users)), ratios)
    parts = np.zeros(len(users), dtype=np.int8)
    if len(users):
        by_time = np.sort(time)
        for part, share in ((VALID, ratios[0]), (TEST, ratios[0] + ratios[1])):
            at = int(len(users) * share + 1e-9)
            if at < len(users):
                parts[time >= by_time[at]] = part
    return parts


def leave_one_out(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    *,
    time: NDArray[np.int64] | NDArray[np.float64] | None,
    seeds: Seeds,
) -> Parts:
    """Give each user's last row to test and the one before to valid; without time, two rows drawn at random.

    A user of two rows has no validation row, a user of one row only a training row.
    """
    by = draw_keys(users, items, seeds.key("split")) if time is None else time
    order = np.lexsort((by, users))
    counts = np.bincount(users) if len(users) else np.zeros(0, dtype=np.int64)
    from_end = counts[users[order]] - 1 - _positions(counts)
    size = counts[users[order]]
    parts = np.zeros(len(users), dtype=np.int8)
    parts[order[(from_end == 0) & (size >= 2)]] = TEST
    parts[order[(from_end == 1) & (size >= 3)]] = VALID
    return parts


def column_split(labels: IdColumn, *, source: str) -> tuple[Parts, NDArray[np.bool_]]:
    """Return parts as labelled (``train``, ``valid``/``val``/``dev``, ``test``) and the mask of labelled rows."""
    if labels.names is None:
        labels = IdColumn.from_values(labels.codes.astype(str))
    assert labels.names is not None
    used = np.bincount(labels.codes[labels.codes >= 0], minlength=len(labels.names)) > 0
    unknown = [str(n) for n, u in zip(labels.names, used, strict=True) if u and n.strip().lower() not in LABELS]
    if unknown:
        found = ", ".join(repr(str(n)) for n in labels.names[used][:20])
        raise DataError(
            f"{source}: unknown split label {unknown[0]!r}; labels found: {found}. Known: {', '.join(LABELS)}"
        )
    meaning = np.array([*(LABELS.get(str(n).strip().lower(), -1) for n in labels.names), -1], dtype=np.int8)
    parts: Parts = meaning[labels.codes]
    return parts, parts >= 0


def cut_valid(users: NDArray[np.int64], items: NDArray[np.int64], parts: Parts, *, share: float, seeds: Seeds) -> Parts:
    """Move floor(n * share) of each user's n training rows, drawn at random, to valid; one always stays."""
    if not 0 <= share < 1:
        raise ConfigError(f"valid_from_train must be in [0, 1), got {share}")
    rows = np.flatnonzero(parts == TRAIN)
    order = np.lexsort((draw_keys(users[rows], items[rows], seeds.key("split/valid")), users[rows]))
    counts = np.bincount(users[rows]) if len(rows) else np.zeros(0, dtype=np.int64)
    moved = np.minimum(np.floor(counts * share + 1e-9).astype(np.int64), np.maximum(counts - 1, 0))
    new = parts.copy()
    new[rows[order[_positions(counts) < moved[users[rows][order]]]]] = VALID
    return new


def draw_keys(users: NDArray[np.int64], items: NDArray[np.int64], key: int) -> NDArray[np.uint64]:
    """Return 64 random bits per (user, item) pair: Philox at the counter (item low, item high, user low, user high)."""
    words = [np.empty(len(users), dtype=np.uint32) for _ in range(2)]
    for a in range(0, len(users), 1 << 20):  # blocks bound the temporaries
        u, i = users[a : a + (1 << 20)].astype(np.int64), items[a : a + (1 << 20)].astype(np.int64)
        low, high, _, _ = philox4x32((i & 0xFFFFFFFF, i >> 32, u & 0xFFFFFFFF, u >> 32), key)
        words[0][a : a + (1 << 20)], words[1][a : a + (1 << 20)] = low, high
    return (words[1].astype(np.uint64) << np.uint64(32)) | words[0]


def _cut(users: NDArray[np.int64], order: NDArray[np.int64], ratios: Ratios) -> Parts:
    """Label rows by position within their user, in the given order (sorted by user)."""
    counts = np.bincount(users).astype(np.int64) if len(users) else np.zeros(0, dtype=np.int64)
    train = np.maximum(np.floor(counts * ratios[0] + 1e-9).astype(np.int64), 1)
    valid_end = np.maximum(np.floor(counts * (ratios[0] + ratios[1]) + 1e-9).astype(np.int64), train)
    position, of = _positions(counts), users[order]
    parts = np.zeros(len(users), dtype=np.int8)
    parts[order] = (position >= train[of]).astype(np.int8) + (position >= valid_end[of])
    return parts


def _positions(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ... within each group of rows sorted by group."""
    starts = np.cumsum(counts) - counts
    return np.arange(int(counts.sum())) - np.repeat(starts, counts)
