"""Negatives: items a user has not touched, drawn from a stream without a position.

A draw is a pure function of (seed, epoch, user, slot) and of what is excluded for the user: threads,
batch size, batch order and backend do not enter. The definitions are in ``fastkd/kernels/reference/sample_*.py``
and, for implementers, in ``csrc/README.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastkd.core import ConfigError, DataError, Interactions, Seeds
from fastkd.core.capability import cpu_count
from fastkd.sampling import _arrays, _tables
from fastkd.sampling._backends import build, choose
from fastkd.sampling.distributions import DISTRIBUTIONS, Distribution, Hard, Popularity, Uniform, named

if TYPE_CHECKING:
    from fastkd.sampling.epochs import Epochs

A = TypeVar("A")
OnExhausted = Literal["raise", "pad"]

MAX_ITEMS = 2**32 - 1
MAX_SLOTS = 2**32
STREAM = Uniform.stream
"""Name of the uniform stream: the Philox key of an epoch is ``Seeds(seed).key("negatives", epoch)``."""

__all__ = ["DISTRIBUTIONS", "MAX_ITEMS", "MAX_SLOTS", "STREAM", "NegativeSampler"]


class NegativeSampler:
    """Draw items that a user has not touched.

    ``interactions``: what each user touched. ``distribution``: a name (``"uniform"``, ``"popularity"``, ``"mixed"``,
    ``"stratified"``) or a value of :mod:`fastkd.sampling.distributions`, such as ``Hard(scores=...)``. ``alpha``: the
    power of the popularity of a name. ``exclude``: further items that are no negatives, such as a teacher's top:
    ``Interactions``, or int [num_users, M] with -1 for none. ``seed``: in [0, 2**63). ``num_threads``: None = the
    cores this
    process may use. ``backend``: ``"auto"`` (C++ where built, else numba), ``"native"``, ``"numba"`` or
    ``"reference"``; the one in use is ``sampler.backend``, and all draw the same items.

    >>> sampler = NegativeSampler(Interactions.from_pairs([0, 0, 1], [0, 1, 2], num_items=4))
    >>> sorted(set(sampler.sample(np.array([0]), 64)[0].tolist()))
    [2, 3]
    """

    def __init__(
        self,
        interactions: Interactions,
        *,
        distribution: str | Distribution = "uniform",
        alpha: float = 0.75,
        exclude: Interactions | Any | None = None,
        seed: int = 0,
        num_threads: int | None = None,
        backend: str = "auto",
    ) -> None:
        if not isinstance(interactions, Interactions):
            raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
        if interactions.num_items > MAX_ITEMS:
            raise DataError(f"a catalogue of {interactions.num_items} items is past the sampler's {MAX_ITEMS}")
        self.interactions = interactions
        self.distribution = named(distribution, alpha)
        self.seeds = Seeds(seed)
        self.num_threads = cpu_count() if num_threads is None else _arrays.count(num_threads, "num_threads", 1, 4096)
        self.backend = choose(backend)
        self.excluded = _merged(interactions, exclude)
        counts = None if exclude is None else _tables.item_counts(interactions)
        self._draws = build(self.backend, self.excluded, self.distribution, counts, self.num_threads)

    def __repr__(self) -> str:
        return (
            f"NegativeSampler({self.interactions!r}, {self.distribution.name}, seed={self.seeds.root}, "
            f"num_threads={self.num_threads}, backend={self.backend!r})"
        )

    def key(self, epoch: int) -> int:
        """Return the 64-bit Philox key of an epoch, ``Seeds(seed).key(distribution.stream, epoch)``."""
        return self.seeds.key(self.distribution.stream, _arrays.count(epoch, "epoch", 0, 2**63 - 1))

    def sample(
        self,
        users: A,
        n: int,
        *,
        epoch: int = 0,
        exclude_lists: Any | None = None,
        replacement: bool = True,
        on_exhausted: OnExhausted = "raise",
        out: Any | None = None,
        return_log_prob: bool = False,
    ) -> Any:
        """Return ``int64[B, n]``: slots 0..n-1 of each user, of the same kind (numpy or torch) as ``users``.

        ``users``: int64[B] (int32 is widened), or a list, for which numpy comes back. ``exclude_lists``: int64 or int32
        [B, M], further items to leave out of each row, -1 = none, in any order, repeats allowed. ``replacement=False``
        (uniform and popularity): a row's items are distinct, each drawn in proportion among what the slots before it
        left; its first slots do not depend on ``n``. ``on_exhausted="pad"``: slots that find no item left are -1, at
        the end of the row. ``out``: an int32 or int64 [B, n] array or tensor to fill and return. A user listed twice
        gets the same items twice; to draw per interaction use :meth:`sample_epoch` or :meth:`sample_slots`.

        With ``return_log_prob=True`` returns ``(ids, log_prob)``: float32 [B, n], the log-probability of each item in
        its
        slot (given the slots before it, without replacement), exclusion taken into account; -inf where an id is -1.
        Not for ``Hard``.

        Raises ``TypeError`` for a wrong dtype or device, ``DataError`` for a user or item out of range and,
        with ``on_exhausted="raise"``, for a user with too few items left.
        """
        return self._sample(users, None, n, epoch, exclude_lists, replacement, on_exhausted, out, return_log_prob)

    def sample_slots(
        self,
        users: A,
        first_slots: Any,
        n: int,
        *,
        epoch: int,
        on_exhausted: OnExhausted = "raise",
        out: Any | None = None,
        return_log_prob: bool = False,
    ) -> Any:
        """Return ``int64[B, n]``: slots ``first_slots[r] .. first_slots[r] + n - 1`` of ``users[r]``, with replacement.

        With ``first_slots = p * n`` for the entry at position p of its user's row this is that entry's row of
        :meth:`sample_epoch`, for any batch in any order. The rest is as in :meth:`sample`.
        """
        firsts = _arrays.integers(first_slots, "first_slots", 1)
        _arrays.check_range(firsts, 0, max(self._slots_of_a_user - _arrays.count(n, "n", 0, MAX_SLOTS), 0) + 1, "slot")
        return self._sample(users, firsts, n, epoch, None, True, on_exhausted, out, return_log_prob)

    def sample_epoch(self, n: int, *, epoch: int, on_exhausted: OnExhausted = "raise", out: Any | None = None) -> Any:
        """Return n negatives for every interaction: numpy ``[nnz, n]``, row e beside ``interactions.indices[e]``.

        The entry at position p of user u's row takes slots ``p * n .. p * n + n - 1`` of u, with replacement.
        The dtype is that of ``interactions.indices``, or that of ``out``. Raises ``DataError`` as :meth:`sample` does.
        """
        slots = _arrays.count(n, "n", 0, MAX_SLOTS)
        _check_choice(on_exhausted)
        degrees = self.interactions.degrees()
        if len(degrees) and int(degrees.max()) * slots > self._slots_of_a_user:
            user = int(np.argmax(degrees))
            raise DataError(f"user {user} with {degrees[user]} items would take more than 2**32 slots at n={n}")
        shape = (self.interactions.nnz, slots)
        drawn, given = _arrays.buffer(out, shape, self.interactions.indices.dtype, self.interactions.num_items)
        indptr = np.require(self.interactions.indptr, requirements=["C", "A"])
        short = self._draws.sample_epoch(self.key(epoch), drawn, self.num_threads, indptr)
        if short >= 0 and on_exhausted == "raise":
            raise self._exhausted(short, slots, np.empty(0, dtype=np.int64), True)
        return drawn if given is None else given

    def epochs(
        self,
        batch_size: int,
        n: int,
        *,
        start: int = 0,
        stop: int | None = None,
        drop_last: bool = False,
        on_exhausted: OnExhausted = "raise",
    ) -> Epochs:
        """Return an iterator over shuffled batches of (users, positives, n negatives), epoch after epoch.

        The next epoch is drawn on a thread while this one is handed out; see :class:`fastkd.sampling.epochs.Epochs`.
        """
        from fastkd.sampling.epochs import EpochProducer, Epochs

        producer = EpochProducer(self, n, on_exhausted=on_exhausted)
        return Epochs(producer, batch_size=batch_size, start=start, stop=stop, drop_last=drop_last)

    @property
    def _slots_of_a_user(self) -> int:
        return MAX_SLOTS // self.distribution.candidates if isinstance(self.distribution, Hard) else MAX_SLOTS

    def _sample(
        self, users: A, firsts: Any, n: int, epoch: int, exclude_lists: Any, replacement: bool,
        on_exhausted: OnExhausted, out: Any, return_log_prob: bool,
    ) -> Any:  # fmt: skip
        ids = _arrays.integers(users, "users", 1)
        _arrays.check_range(ids, 0, self.interactions.num_users, "user")
        if firsts is not None and len(firsts) != len(ids):
            raise DataError(f"first_slots has {len(firsts)} entries for {len(ids)} users")
        slots = _arrays.count(n, "n", 0, self._slots_of_a_user)
        lists = self._checked_lists(exclude_lists, len(ids))
        _check_choice(on_exhausted)
        self._check_ability(replacement, return_log_prob)
        drawn, given = _arrays.buffer(out, (len(ids), slots), np.dtype(np.int64), self.interactions.num_items)
        logs = np.empty(drawn.shape, dtype=np.float32) if return_log_prob else None
        rows = ids.astype(np.int64, copy=False)
        starts = None if firsts is None else firsts.astype(np.int64, copy=False)
        short = self._draws.sample(
            rows, self.key(epoch), drawn, lists, bool(replacement), self.num_threads, starts, logs
        )
        if short >= 0 and on_exhausted == "raise":
            extra = lists[short] if lists is not None else np.empty(0, dtype=np.int64)
            raise self._exhausted(int(ids[short]), slots, extra, replacement)
        result = _arrays.like(drawn, users) if given is None else given
        return (result, _arrays.like(logs, users)) if logs is not None else result

    def _check_ability(self, replacement: bool, return_log_prob: bool) -> None:
        if not replacement and not isinstance(self.distribution, (Uniform, Popularity)):
            raise ConfigError(
                f"{self.distribution.name} draws with replacement only; uniform and popularity can without"
            )
        if return_log_prob and isinstance(self.distribution, Hard):
            raise ConfigError("the probability of a hard negative is not known; use another distribution for log-Q")

    def _checked_lists(self, lists: Any, rows: int) -> Any:
        if lists is None:
            return None
        ids = _arrays.integers(lists, "exclude_lists", 2)
        if len(ids) != rows:
            raise DataError(f"exclude_lists has {len(ids)} rows for {rows} users")
        _arrays.check_range(ids, -1, self.interactions.num_items, "excluded item")
        return ids

    def _exhausted(self, user: int, n: int, extra: Any, replacement: bool) -> DataError:
        history = self.excluded.row(user)
        excluded = len(np.union1d(history, extra[extra >= 0]))
        left = self.interactions.num_items - excluded
        seen = f"{len(history)} seen and {excluded - len(history)} excluded of {self.interactions.num_items} items"
        if left == 0:
            return DataError(f"user {user} has no item left ({seen}); pass on_exhausted='pad' to get -1")
        if not isinstance(self.distribution, Uniform):
            return DataError(
                f"user {user} has fewer items left that {self.distribution.name} can draw than n={n} asks for "
                f"({seen}; the others have no weight); pass on_exhausted='pad' to get -1"
            )
        assert not replacement
        return DataError(
            f"user {user} has {left} item(s) left ({seen}) but n={n} without replacement; "
            "ask for fewer, or pass on_exhausted='pad' to get -1"
        )


def _merged(interactions: Interactions, exclude: Any) -> Interactions:
    """Return what each user touched and what else is excluded, as one table."""
    if exclude is None:
        return interactions
    if not isinstance(exclude, Interactions):
        lists: NDArray[Any] = _arrays.integers(exclude, "exclude", 2)
        if len(lists) != interactions.num_users:
            raise DataError(f"exclude has {len(lists)} rows for {interactions.num_users} users")
        _arrays.check_range(lists, -1, interactions.num_items, "excluded item")
        rows, columns = np.nonzero(lists >= 0)
        exclude = Interactions.from_pairs(
            rows, lists[rows, columns], num_users=len(lists), num_items=interactions.num_items, duplicates="merge"
        )
    return interactions.union(exclude)


def _check_choice(on_exhausted: str) -> None:
    if on_exhausted not in ("raise", "pad"):
        raise ConfigError(f"on_exhausted must be 'raise' or 'pad', got {on_exhausted!r}")
