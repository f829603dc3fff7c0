"""The draws behind a synthetic catalogue: items in cells, user mixtures, distinct items per user.

The law is stated in :mod:`fastkd.data.synthetic`. Work goes in chunks of users; no users x items object exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastkd.core.errors import ConfigError
from fastkd.core.philox import philox4x32, uniform_open
from fastkd.core.seeds import Seeds
from fastkd.data.splits import Ratios, check_ratios

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """A synthetic catalogue.

    ``interactions_per_user``: mean; ``activity_spread``: sigma of its log-normal spread over users (0 = all equal).
    ``popularity_exponent`` a: w = rank^-a. ``taste_temperature``: smaller = users keep to fewer clusters.
    ``num_styles`` > 1 plants a second, independent factor, which needs that many more dimensions. ``noise``: share
    of each mixture that is uniform. ``ratios``: train, valid, test of each user's items, at random.
    """

    num_users: int = 1000
    num_items: int = 2000
    num_clusters: int = 16
    num_styles: int = 1
    interactions_per_user: int = 30
    activity_spread: float = 0.5
    popularity_exponent: float = 0.8
    taste_temperature: float = 0.5
    noise: float = 0.05
    ratios: Ratios = (0.8, 0.1, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        at_least = {"num_users": 1, "num_items": 2, "num_clusters": 1, "num_styles": 1, "interactions_per_user": 1}
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.num_clusters * self.num_styles > self.num_items:
            raise ConfigError(
                f"{self.num_clusters} clusters x {self.num_styles} styles need as many items, got {self.num_items}"
            )
        if 2 * self.interactions_per_user > self.num_items:
            raise ConfigError(
                f"interactions_per_user={self.interactions_per_user} is more than half of num_items={self.num_items}"
            )
        for name, low, high in (
            ("activity_spread", 0, 3),
            ("popularity_exponent", 0, 5),
            ("taste_temperature", 1e-3, 1e6),
            ("noise", 0, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
        check_ratios(self.ratios)


@dataclass(frozen=True)
class PlantedItems:
    """Items sorted by cell: ``order`` int64[N]; ``cumulative`` f64[N] runs from k to k + 1 inside cell k."""

    cells: I64
    order: I64
    bounds: I64
    cumulative: F64
    log_share: F64


def plant_items(config: SyntheticConfig, seeds: Seeds) -> PlantedItems:
    """Deal the items into cells of equal size and give them Zipf weights, both in random order."""
    n, cells = config.num_items, config.num_clusters * config.num_styles
    cell_of = seeds.numpy("cells").permutation(n) % cells
    weight = (seeds.numpy("popularity").permutation(n) + 1.0) ** -config.popularity_exponent
    order = np.argsort(cell_of, kind="stable")
    bounds = np.zeros(cells + 1, dtype=np.int64)
    np.cumsum(np.bincount(cell_of, minlength=cells), out=bounds[1:])
    total = np.add.reduceat(weight[order], bounds[:-1])
    share = weight / total[cell_of]
    return PlantedItems(cell_of, order, bounds, np.cumsum(share[order]), np.log(share))


def _words(users: I64, slots: I64, key: int) -> tuple[NDArray[np.uint32], ...]:
    return philox4x32((slots, 0, users & 0xFFFFFFFF, users >> 32), key)


def _fine(high: NDArray[np.uint32], low: NDArray[np.uint32]) -> F64:
    """Return uniforms in (0, 1) with 52 random bits."""
    return ((high.astype(np.float64) * 2.0**20 + (low >> 12)) + 0.5) * 2.0**-52


def _normal(users: I64, count: int, key: int) -> F64:
    """Return standard normals f64[B, count] by Box-Muller, one Philox block per two."""
    half = (count + 1) // 2
    a, b, c, d = _words(users[:, None], np.arange(half), key)
    radius = np.sqrt(-2 * np.log(_fine(a, b)))
    angle = 2 * np.pi * _fine(c, d)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]


def user_mixture(config: SyntheticConfig, seeds: Seeds, users: I64, name: str, size: int) -> F64:
    """Return the mixtures of ``users`` int64[B] over clusters or styles, f64[B, size], noise included."""
    logits = _normal(users, size, seeds.key(f"taste/{name}")) / config.taste_temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    # a floor keeps log P finite without noise; it is part of P, so the oracle stays exact
    mixed = (1 - config.noise) * weights + config.noise / size + 1e-12
    return np.asarray(mixed / mixed.sum(axis=1, keepdims=True))


def user_activity(config: SyntheticConfig, seeds: Seeds, users: I64) -> I64:
    """Return how many distinct items each of ``users`` int64[B] gets, int64[B]."""
    spread = config.activity_spread
    factor = np.exp(spread * _normal(users, 1, seeds.key("activity"))[:, 0] - spread**2 / 2)
    least = min(3, config.interactions_per_user)
    counts = np.rint(config.interactions_per_user * factor).astype(np.int64)
    return np.asarray(np.clip(counts, least, config.num_items // 2))


def draw(
    config: SyntheticConfig, seeds: Seeds, users: I64, counts: I64, tastes: list[F64], items: PlantedItems
) -> tuple[I64, I64]:
    """Return users int64[n] and items int64[n]: for each user the first ``counts`` distinct draws."""
    cumulative = [_running(t) for t in tastes]
    kept = np.zeros(0, dtype=np.int64)  # row * num_items + item, in draw order within each row
    open_rows, start = np.arange(len(users)), np.zeros(len(users), dtype=np.int64)
    done: list[I64] = []
    for _ in range(_ROUNDS):
        many = counts[open_rows] + counts[open_rows] // 4 + 4
        rows = np.repeat(open_rows, many)
        slots = np.arange(len(rows)) - np.repeat(np.cumsum(many) - many, many) + start[rows]
        start[open_rows] += many
        fresh = rows * config.num_items + _pick(config, seeds, users[rows], rows, slots, cumulative, items)
        kept = _first_distinct(np.concatenate([kept, fresh]), counts, config.num_items)
        got = np.bincount(kept // config.num_items, minlength=len(users))
        full = got[kept // config.num_items] == counts[kept // config.num_items]
        done.append(kept[full])
        kept = kept[~full]
        open_rows = open_rows[got[open_rows] < counts[open_rows]]
        if not len(open_rows):
            break
    done.extend(_finish(config, seeds, users, int(row), counts, tastes, items, kept) for row in open_rows)
    keys = np.concatenate(done)
    return users[keys // config.num_items], keys % config.num_items


def _pick(
    config: SyntheticConfig, seeds: Seeds, users: I64, rows: I64, slots: I64, cumulative: list[F64], items: PlantedItems
) -> I64:
    """Return one item per (user, slot): a cluster, a style, then an item of that cell by popularity."""
    out = np.empty(len(rows), dtype=np.int64)
    key = seeds.key("draw")
    for a in range(0, len(rows), 1 << 18):  # blocks bound the temporaries
        part = slice(a, a + (1 << 18))
        first, second, high, low = _words(users[part], slots[part], key)
        cell = _categorical(cumulative[0], config.num_clusters, rows[part], uniform_open(first))
        if config.num_styles > 1:
            style = _categorical(cumulative[1], config.num_styles, rows[part], uniform_open(second))
            cell = cell * config.num_styles + style
        base = np.where(cell > 0, items.cumulative[items.bounds[cell] - 1], 0.0)
        top = items.cumulative[items.bounds[cell + 1] - 1]
        at = np.searchsorted(items.cumulative, base + _fine(high, low) * (top - base), side="right")
        out[part] = items.order[np.clip(at, items.bounds[cell], items.bounds[cell + 1] - 1)]
    return out


def _running(taste: F64) -> F64:
    """Return the cumulative weights of all rows as one rising line: row r runs from r to r + 1."""
    cumulative = np.cumsum(taste, axis=1)
    return np.asarray((cumulative / cumulative[:, -1:] + np.arange(len(taste))[:, None]).ravel())


def _categorical(running: F64, size: int, rows: I64, u: F64) -> I64:
    """Return the first position whose cumulative weight of the row exceeds u."""
    at = np.searchsorted(running, rows + u, side="right") - rows * size
    return np.asarray(np.clip(at, 0, size - 1))


def _first_distinct(keys: I64, counts: I64, num_items: int) -> I64:
    """Keep the first occurrence of each key and at most ``counts[row]`` of each row, in order."""
    first = np.sort(np.unique(keys, return_index=True)[1])
    keys = keys[first]
    rows = keys // num_items
    by_row = np.argsort(rows, kind="stable")
    sizes = np.bincount(rows, minlength=len(counts))
    position = np.arange(len(keys)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = by_row[position < counts[rows[by_row]]]
    return keys[kept]


def _finish(
    config: SyntheticConfig,
    seeds: Seeds,
    users: I64,
    row: int,
    counts: I64,
    tastes: list[F64],
    items: PlantedItems,
    kept: I64,
) -> I64:
    """Complete one user's items by Gumbel top-n over the catalogue: the same law, for very narrow tastes."""
    had = kept[kept // config.num_items == row]
    score = items.log_share + np.log(tastes[0][row][items.cells // config.num_styles])
    if config.num_styles > 1:
        score += np.log(tastes[1][row][items.cells % config.num_styles])
    ids = np.arange(config.num_items)
    word, more, _, _ = philox4x32(
        (ids & 0xFFFFFFFF, ids >> 32, users[row] & 0xFFFFFFFF, users[row] >> 32), seeds.key("finish")
    )
    score -= np.log(-np.log(_fine(word, more)))
    score[had % config.num_items] = -np.inf
    need = int(counts[row]) - len(had)
    best = np.argpartition(-score, need)[:need]
    best = best[np.argsort(-score[best], kind="stable")]
    return np.concatenate([had, row * config.num_items + best])
