"""Negatives: items a user has not touched, drawn from a stream without a position.

A draw is a pure function of (seed, epoch, user, slot) and of what is excluded for the user: threads,
batch size, batch order and backend do not enter. The definition is in
``fastkd/kernels/reference/sample_unobserved.py`` and, for implementers, in ``csrc/README.md``.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import numpy as np

from fastkd.core import ConfigError, DataError, Interactions, Seeds
from fastkd.core.capability import cpu_count
from fastkd.core.errors import did_you_mean
from fastkd.sampling import _arrays
from fastkd.sampling._backends import build, choose

A = TypeVar("A")

DISTRIBUTIONS = ("uniform",)
MAX_ITEMS = 2**32 - 1
MAX_SLOTS = 2**32
STREAM = "negatives"
"""Name of the stream: the Philox key of an epoch is ``Seeds(seed).key("negatives", epoch)``."""


class NegativeSampler:
    """Draw items that a user has not touched.

    ``interactions``: what each user touched. ``distribution``: ``"uniform"``, every item left equally
    likely. ``seed``: in [0, 2**63). ``num_threads``: None = the cores this process may use.
    ``backend``: ``"auto"`` (C++ where built, else numba), ``"native"``, ``"numba"`` or ``"reference"``;
    the one in use is ``sampler.backend``, and all draw the same items.

    >>> sampler = NegativeSampler(Interactions.from_pairs([0, 0, 1], [0, 1, 2], num_items=4))
    >>> sorted(set(sampler.sample(np.array([0]), 64)[0].tolist()))
    [2, 3]
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        distribution: str = "uniform",
        seed: int = 0,
        num_threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        if not isinstance(interactions, Interactions):
            raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
        if distribution not in DISTRIBUTIONS:
            raise ConfigError(
                f"unknown distribution {distribution!r}.{did_you_mean(distribution, DISTRIBUTIONS)} "
                f"Known: {', '.join(DISTRIBUTIONS)}"
            )
        if interactions.num_items > MAX_ITEMS:
            raise DataError(f"a catalogue of {interactions.num_items} items is past the sampler's {MAX_ITEMS}")
        self.interactions = interactions
        self.seeds = Seeds(seed)
        self.num_threads = cpu_count() if num_threads is None else _arrays.count(num_threads, "num_threads", 1, 4096)
        self.backend = choose(backend)
        self._draws = build(self.backend, interactions)

    def __repr__(self) -> str:
        return (
            f"NegativeSampler({self.interactions!r}, seed={self.seeds.root}, num_threads={self.num_threads}, "
            f"backend={self.backend!r})"
        )

    def key(self, epoch: int) -> int:
        """Return the 64-bit Philox key of an epoch, ``Seeds(seed).key("negatives", epoch)``."""
        return self.seeds.key(STREAM, _arrays.count(epoch, "epoch", 0, 2**63 - 1))

    def sample(
        self,
        users: A,
        n: int,
        *,
        epoch: int = 0,
        exclude_lists: Any | None = None,
        replacement: bool = True,
        on_exhausted: Literal["raise", "pad"] = "raise",
    ) -> A:
        """Return ``int64[B, n]``: slots 0..n-1 of each user, of the same kind (numpy or torch) as ``users``.

        ``users``: int64[B] (int32 is widened). ``exclude_lists``: int64 or int32 [B, M], further items to
        leave out of each row, -1 = none, in any order, repeats allowed. ``replacement=False``: a row's
        items are distinct; its first slots do not depend on ``n``. ``on_exhausted="pad"``: slots that find
        no item left are -1, at the end of the row. A user listed twice gets the same items twice; to draw
        per interaction use :meth:`sample_epoch`.

        Raises ``TypeError`` for a wrong dtype or device, ``DataError`` for a user or item out of range and,
        with ``on_exhausted="raise"``, for a user with too few items left.
        """
        ids = _arrays.integers(users, "users", 1)
        _arrays.check_range(ids, 0, self.interactions.num_users, "user")
        slots = _arrays.count(n, "n", 0, MAX_SLOTS)
        lists = self._checked_lists(exclude_lists, len(ids))
        _check_choice(on_exhausted)
        out = np.empty((len(ids), slots), dtype=np.int64)
        rows = ids.astype(np.int64, copy=False)
        short = self._draws.sample(rows, self.key(epoch), out, lists, bool(replacement), self.num_threads)
        if short >= 0 and on_exhausted == "raise":
            extra = lists[short] if lists is not None else np.empty(0, dtype=np.int64)
            raise self._exhausted(int(ids[short]), slots, extra, replacement)
        drawn: A = _arrays.like(out, users)
        return drawn

    def sample_epoch(self, n: int, *, epoch: int, on_exhausted: Literal["raise", "pad"] = "raise") -> Any:
        """Return n negatives for every interaction: numpy ``[nnz, n]``, row e beside ``interactions.indices[e]``.

        The entry at position p of user u's row takes slots ``p * n .. p * n + n - 1`` of u, with replacement.
        The dtype is that of ``interactions.indices``. Raises ``DataError`` as :meth:`sample` does.
        """
        slots = _arrays.count(n, "n", 0, MAX_SLOTS)
        _check_choice(on_exhausted)
        degrees = self.interactions.degrees()
        if len(degrees) and int(degrees.max()) * slots > MAX_SLOTS:
            user = int(np.argmax(degrees))
            raise DataError(f"user {user} with {degrees[user]} items would take more than 2**32 slots at n={n}")
        out = np.empty((self.interactions.nnz, slots), dtype=self.interactions.indices.dtype)
        short = self._draws.sample_epoch(self.key(epoch), out, self.num_threads)
        if short >= 0 and on_exhausted == "raise":
            raise self._exhausted(short, slots, np.empty(0, dtype=np.int64), True)
        return out

    def _checked_lists(self, lists: Any, rows: int) -> Any:
        if lists is None:
            return None
        ids = _arrays.integers(lists, "exclude_lists", 2)
        if len(ids) != rows:
            raise DataError(f"exclude_lists has {len(ids)} rows for {rows} users")
        _arrays.check_range(ids, -1, self.interactions.num_items, "excluded item")
        return ids

    def _exhausted(self, user: int, n: int, extra: Any, replacement: bool) -> DataError:
        history = self.interactions.row(user)
        excluded = len(np.union1d(history, extra[extra >= 0]))
        left = self.interactions.num_items - excluded
        seen = f"{len(history)} seen and {excluded - len(history)} excluded of {self.interactions.num_items} items"
        if left == 0:
            return DataError(f"user {user} has no item left ({seen}); pass on_exhausted='pad' to get -1")
        assert not replacement
        return DataError(
            f"user {user} has {left} item(s) left ({seen}) but n={n} without replacement; "
            "ask for fewer, or pass on_exhausted='pad' to get -1"
        )


def _check_choice(on_exhausted: str) -> None:
    if on_exhausted not in ("raise", "pad"):
        raise ConfigError(f"on_exhausted must be 'raise' or 'pad', got {on_exhausted!r}")
