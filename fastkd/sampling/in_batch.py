"""Negatives from the batch itself: the other rows' positives, false ones left out, with log-Q corrections.

An item stands in a batch of shuffled interactions as often as it stands in the data, so popular items are drawn as
negatives more often than others. Training on ``s(u, i) - log q_i`` instead of ``s(u, i)`` undoes that, with

    q_i = count_i / sum_j count_j        (the item's share of the interactions)

Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations" (RecSys 2019), eq. 6.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastkd.core import ConfigError, DataError, Interactions, Seeds
from fastkd.core.capability import cpu_count
from fastkd.sampling import _arrays
from fastkd.sampling._backends import choose

A = TypeVar("A")

STREAM = "in_batch"
"""Name of the stream: the Philox key of a step is ``Seeds(seed).key("in_batch", epoch, step)``."""


@dataclass(frozen=True)
class InBatchNegatives(Generic[A]):
    """What was found for a batch of B rows.

    ``items`` Int64[B, n], -1 = none; ``columns`` Int64[B, n]: the rows they are the positives of, -1 = none;
    ``log_q`` Float32[B, n]: log of each item's share of the interactions, 0 where there is none; ``positive_log_q``
    Float32[B]: the same of the rows' own positives, which are corrected too.
    """

    items: A
    columns: A
    log_q: A
    positive_log_q: A


class InBatchSampler:
    """Serve the rows of a batch as each other's negatives.

    Column c of a batch is the positive of row c. It is a negative of row b unless ``c == b``, or the two rows hold
    the same item, or the user of row b has touched it (a false negative). Items that stand in several other rows
    count once for each, which is what ``q`` says of them.

    ``interactions``: what each user touched. ``seed``, ``num_threads``, ``backend`` as in :class:`NegativeSampler`;
    all backends give the same, for any number of threads.

    >>> sampler = InBatchSampler(Interactions.from_pairs([0, 0, 1, 2], [0, 1, 2, 3], num_items=4))
    >>> sampler.mask(np.array([0, 0, 1]), np.array([0, 1, 2])).tolist()
    [[False, False, True], [False, False, True], [True, True, False]]
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        seed: int = 0,
        num_threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        if not isinstance(interactions, Interactions):
            raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
        self.interactions = interactions
        self.seeds = Seeds(seed)
        self.num_threads = cpu_count() if num_threads is None else _arrays.count(num_threads, "num_threads", 1, 4096)
        self.backend = choose(backend)
        # The numba twin draws; looking columns up without the C++ module is numpy's.
        module = importlib.import_module(
            "fastkd._native" if self.backend == "native" else "fastkd.kernels.reference.in_batch"
        )
        arrays = (np.require(a, requirements=["C", "A"]) for a in (interactions.indptr, interactions.indices))
        self._batch = module.InBatch(*arrays, interactions.num_items)
        counts = np.maximum(interactions.item_counts(), 1)
        self._log_q = (np.log(counts) - np.log(max(interactions.nnz, 1))).astype(np.float32)

    def log_q(self, items: A) -> A:
        """Return ``log(count_i / nnz)``, Float32 of the shape of ``items`` (1-d) and of their kind.

        An item without interactions is taken to have one. Subtract it from the scores of positives and negatives.
        """
        ids = self._ids(items, "items", self.interactions.num_items)
        return self._like(self._log_q[ids], items)

    def false_negatives(self, users: A, positives: A) -> tuple[A, A]:
        """Return (rows, columns), Int64[F] each: the places of a B x B score matrix that are no negatives.

        The diagonal is among them. ``users``, ``positives``: int64[B] (int32 is widened). Memory: what is found.
        """
        indptr, columns = self._left_out(users, positives)
        rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        return self._like(rows, users), self._like(columns.astype(np.int64), users)

    def mask(self, users: A, positives: A) -> A:
        """Return Bool[B, B], True where the column is a negative of the row."""
        indptr, columns = self._left_out(users, positives)
        allowed = np.ones((len(indptr) - 1, len(indptr) - 1), dtype=np.bool_)
        allowed[np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)), columns] = False
        return self._like(allowed, users)

    def sample(
        self,
        users: A,
        positives: A,
        n: int | None,
        *,
        epoch: int = 0,
        step: int = 0,
        replacement: bool = True,
        on_exhausted: Literal["raise", "pad"] = "raise",
    ) -> InBatchNegatives[A]:
        """Return n negatives for each row, or with ``n=None`` all of them, [B, B] with -1 for the others.

        ``users``, ``positives``: int64[B] (int32 is widened), numpy or torch; the result is of that kind. Each slot is
        uniform over the row's negatives; a draw is a pure
        function of (seed, epoch, step, row, slot) and of the batch. ``replacement=False``: the columns
        of a row are distinct. Raises ``DataError`` for ids out of range and, with
        ``on_exhausted="raise"`` and an n, for a row with too few negatives; ``"pad"`` gives -1 at its end.
        """
        if on_exhausted not in ("raise", "pad"):
            raise ConfigError(f"on_exhausted must be 'raise' or 'pad', got {on_exhausted!r}")
        indptr, left_out = self._left_out(users, positives)
        size = len(indptr) - 1
        if n is None:
            columns = np.tile(np.arange(size), (size, 1))
            columns[np.repeat(np.arange(size), np.diff(indptr)), left_out] = -1
        else:
            key = self.seeds.key(STREAM, _arrays.count(epoch, "epoch", 0, 2**62), _arrays.count(step, "step", 0, 2**62))
            columns = np.empty((size, _arrays.count(n, "n", 0, 2**32)), dtype=np.int64)
            short = self._draw(indptr, left_out, key, columns, replacement)
            if short >= 0 and on_exhausted == "raise":
                left = size - int(indptr[short + 1] - indptr[short])
                raise DataError(
                    f"row {short} has {left} negative(s) in a batch of {size} but n={n}"
                    f"{'' if replacement else ' without replacement'}; pass on_exhausted='pad' to get -1"
                )
        own = self._ids(positives, "positives", self.interactions.num_items)
        if size == 0:
            return InBatchNegatives(*(self._like(a, users) for a in _nothing(columns)))
        found = columns >= 0
        return InBatchNegatives(
            self._like(np.where(found, own[columns], -1), users),
            self._like(columns, users),
            self._like(np.where(found, self._log_q[own[columns]], np.float32(0)), users),
            self._like(self._log_q[own], users),
        )

    def _draw(
        self,
        indptr: NDArray[np.int64],
        left_out: NDArray[np.int32],
        key: int,
        out: NDArray[np.int64],
        replacement: bool,
    ) -> int:
        """Fill ``out`` with columns: draws of the uniform sampler, with rows for users and columns for items."""
        name = "fastkd._native" if self.backend == "native" else f"fastkd.kernels.{self.backend}.sample_unobserved"
        sampler = importlib.import_module(name).UniformSampler(indptr, left_out, len(indptr) - 1)
        rows = np.arange(len(indptr) - 1, dtype=np.int64)
        return int(sampler.sample(rows, key, out, None, bool(replacement), self.num_threads))

    def _left_out(self, users: Any, positives: Any) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        rows = self._ids(users, "users", self.interactions.num_users)
        items = self._ids(positives, "positives", self.interactions.num_items)
        if len(rows) != len(items):
            raise DataError(f"positives has {len(items)} rows for {len(rows)} users")
        found: tuple[NDArray[np.int64], NDArray[np.int32]] = self._batch.left_out(rows, items, self.num_threads)
        return found

    @staticmethod
    def _ids(values: Any, name: str, bound: int) -> NDArray[np.int64]:
        ids = _arrays.integers(values, name, 1)
        _arrays.check_range(ids, 0, bound, name.removesuffix("s"))
        return ids.astype(np.int64, copy=False)

    @staticmethod
    def _like(values: NDArray[Any], given: A) -> A:
        found: A = _arrays.like(values, given)
        return found


def _nothing(columns: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    return columns, columns.copy(), columns.astype(np.float32), np.zeros(0, dtype=np.float32)
