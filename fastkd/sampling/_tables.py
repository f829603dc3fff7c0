"""Integer tables that every backend draws from alike: masses of items, strata and their shares."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core import ConfigError, DataError, Interactions
from fastkd.sampling import _arrays
from fastkd.sampling.distributions import MAX_STRATA, Stratified

FULL = 2**32
_STRETCH = 2**18
MAX_WEIGHTED = 2**30


def item_counts(interactions: Interactions) -> NDArray[np.int64]:
    """Return the number of users of each item, holding nothing else of the catalogue's size meanwhile."""
    counts = np.zeros(interactions.num_items, dtype=np.int64)
    for begin in range(0, interactions.nnz, _STRETCH):
        np.add.at(counts, interactions.indices[begin : begin + _STRETCH], 1)
    return counts


def masses(counts: NDArray[np.int64], alpha: float) -> NDArray[np.uint64]:
    """Return integer masses uint64[N] in proportion to ``count ** alpha`` that sum to ``N * 2**32`` exactly.

    A mass is the nearest integer, then moved by a unit or two to meet the sum: its relative error is below
    ``2**-31 / (N p_i)``. An item of positive weight has at least 1. Raises ``DataError`` where nothing has weight.
    """
    items = len(counts)
    if items > MAX_WEIGHTED:
        raise DataError(f"a catalogue of {items} items is past the {MAX_WEIGHTED} that can be drawn by popularity")
    if items == 0:
        return np.zeros(0, dtype=np.uint64)
    # One power per different count, by the C library: the same bits whatever numpy's vector units do.
    times = np.bincount(counts)
    weight_of = np.array([float(c) ** alpha if n else 0.0 for c, n in enumerate(times.tolist())])
    total_weight = math.fsum((weight_of * times).tolist())
    if total_weight == 0:
        raise DataError("no item has an interaction, so none has popularity; use alpha=0 or distribution='uniform'")
    mass_of = np.where(weight_of > 0, np.maximum(np.rint(weight_of * (items * FULL / total_weight)), 1), 0)
    found: NDArray[np.uint64] = mass_of.astype(np.uint64)[counts]
    _meet(found, items * FULL)
    return found


def _meet(found: NDArray[np.uint64], wanted: int) -> None:
    """Move masses by a unit at a time, first items first, until they sum to ``wanted``.

    In stretches, so that the catalogue is not held another time.
    """
    missing = wanted - int(found.sum(dtype=np.uint64))
    if missing > 0:
        each, missing = divmod(missing, int(np.count_nonzero(found)))
        if each:
            for part in _stretches(found):
                part[part > 0] += np.uint64(each)
    while missing != 0:
        least, step = (np.uint64(0), 1) if missing > 0 else (np.uint64(1), -1)
        for part in _stretches(found):
            able = np.flatnonzero(part > least)[: abs(missing)]
            part[able] = part[able] + np.uint64(1) if step > 0 else part[able] - np.uint64(1)
            missing -= step * len(able)
            if missing == 0:
                break


def _stretches(found: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    return (found[begin : begin + _STRETCH] for begin in range(0, len(found), _STRETCH))


def shares_of(values: Any) -> NDArray[np.uint64]:
    """Return shares of 2**32 that sum to it exactly, from shares that sum to 1."""
    edges = np.rint(np.cumsum(np.asarray(values, dtype=np.float64)) * FULL)
    # A sum before the last may be above 1 by a rounding, and edges must not fall.
    edges = np.minimum(edges, FULL).astype(np.uint64)
    edges[-1] = FULL
    found: NDArray[np.uint64] = np.diff(edges, prepend=np.uint64(0))
    return found


def strata(distribution: Stratified, counts: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Return the stratum of each item, uint8[N], and the shares of the strata."""
    given = distribution.strata
    if isinstance(given, int):
        number = given
        order = np.argsort(counts, kind="stable")
        stratum_of = np.empty(len(counts), dtype=np.uint8)
        for stratum in range(number):  # item at place i of the order: i * number // items
            begin, end = (-(-k * len(counts) // number) for k in (stratum, stratum + 1))
            stratum_of[order[begin:end]] = stratum
    else:
        ids = _arrays.integers(given, "strata", 1)
        if len(ids) != len(counts):
            raise DataError(f"strata has {len(ids)} entries for {len(counts)} items")
        number = len(distribution.shares) if distribution.shares is not None else int(ids.max(initial=0)) + 1
        if number > MAX_STRATA:
            raise ConfigError(f"at most {MAX_STRATA} strata can be told apart, got {number}")
        _arrays.check_range(ids, 0, number, "stratum")
        stratum_of = ids.astype(np.uint8)
    shares = distribution.shares if distribution.shares is not None else [1 / number] * number
    if len(shares) != number:
        raise ConfigError(f"shares has {len(shares)} entries for {number} strata")
    return stratum_of, shares_of(shares)
