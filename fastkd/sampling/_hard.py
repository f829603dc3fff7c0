"""Hard negatives where the C++ module does not score: candidates from the uniform stream, the best picked in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core import DataError
from fastkd.sampling import _arrays
from fastkd.sampling.distributions import Hard

_CANDIDATES = 1 << 22
"""Candidates of an epoch that are scored at a time."""


def vectors(distribution: Hard, num_users: int, num_items: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return both tables as float32 arrays that share memory with what was given."""
    assert not callable(distribution.scores)
    found = []
    for name, table, rows in zip(("user", "item"), distribution.scores, (num_users, num_items), strict=True):
        if _arrays.is_tensor(table):
            if table.device.type != "cpu":
                raise TypeError(f"{name} vectors are on {table.device}; negatives are drawn on the CPU")
            table = table.detach().numpy()
        if not isinstance(table, np.ndarray) or table.dtype != np.float32 or not table.flags.c_contiguous:
            kind = f"{table.dtype}" if isinstance(table, np.ndarray) else type(table).__name__
            raise TypeError(f"{name} vectors must be a C-contiguous float32 array or tensor, got {kind}")
        if table.ndim != 2 or len(table) != rows:
            raise DataError(f"{name} vectors must be [{rows}, d], got {list(table.shape)}")
        found.append(table)
    if found[0].shape[1] != found[1].shape[1]:
        raise DataError(f"vectors differ in width: {found[0].shape[1]} and {found[1].shape[1]}")
    return found[0], found[1]


class HardDraws:
    """The face of ``fastkd._native.HardSampler`` over any uniform sampler and any scores."""

    def __init__(self, uniform: Any, distribution: Hard, num_users: int, num_items: int) -> None:
        self._uniform, self._candidates = uniform, distribution.candidates
        self._tables = None if callable(distribution.scores) else vectors(distribution, num_users, num_items)
        self._scores = distribution.scores if callable(distribution.scores) else self._inner_products

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[Any],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
        first_slots: NDArray[np.int64] | None = None,
        log_prob: NDArray[np.float32] | None = None,
    ) -> int:
        """Fill ``out`` [B, n]; return the first row with no item left, or -1."""
        assert replacement
        assert log_prob is None
        m, n = self._candidates, out.shape[1]
        firsts = None if first_slots is None else first_slots * m
        drawn = np.empty((len(users), n * m), dtype=np.int64)
        short = self._uniform.sample(users, key, drawn, exclude_lists, True, threads, firsts)
        out[...] = self._best(users, drawn).reshape(len(users), n)
        return int(short)

    def sample_epoch(
        self, key: int, out: NDArray[Any], threads: int = 1, indptr: NDArray[np.int64] | None = None
    ) -> int:
        """Fill ``out`` [nnz, n]; return the first user with no item left, or -1."""
        assert indptr is not None
        n = out.shape[1]
        users = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        firsts = (np.arange(len(users)) - indptr[users]) * n
        step = max(1, _CANDIDATES // max(n * self._candidates, 1))
        short = -1
        for begin in range(0, len(users), step):
            part = slice(begin, begin + step)
            found = self.sample(users[part], key, out[part], None, True, threads, firsts[part])
            if found >= 0 and short < 0:
                short = int(users[begin + found])
        return short

    def _best(self, users: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        # A user with nothing left has -1 in all places; a caller's function is asked about items alone.
        some = (drawn >= 0).any(axis=1)
        if drawn.size and not some.all():
            found = np.full((len(drawn), drawn.shape[1] // self._candidates), -1, dtype=np.int64)
            found[some] = self._best(users[some], drawn[some])
            return found
        scores: Any = self._scores(users, drawn) if drawn.size else np.empty(drawn.shape, dtype=np.float32)
        if _arrays.is_tensor(scores):
            scores = scores.detach().cpu().numpy()
        scores = np.asarray(scores)
        if scores.shape != drawn.shape or scores.dtype.kind != "f":
            raise DataError(f"scores must return floats {list(drawn.shape)}, got {scores.dtype}{list(scores.shape)}")
        scores = np.where(np.isnan(scores), -np.inf, scores).reshape(len(users), -1, self._candidates)
        items = drawn.reshape(scores.shape)
        top = scores == scores.max(axis=2, keepdims=True) if scores.size else np.zeros(scores.shape, dtype=bool)
        best: NDArray[np.int64] = np.where(top, items, np.iinfo(np.int64).max).min(axis=2, initial=2**62)
        return best

    def _inner_products(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
        assert self._tables is not None
        left, right = self._tables
        sums = np.zeros(items.shape)
        for k in range(left.shape[1]):  # in order, as the ranking ops sum
            sums += left[users, k].astype(np.float64)[:, None] * right[items, k]
        return sums.astype(np.float32)
