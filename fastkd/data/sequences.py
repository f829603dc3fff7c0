"""Per-user item sequences in the order of time, as one CSR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastkd.core.errors import DataError


@dataclass(frozen=True, eq=False)
class UserSequences:
    """``items[indptr[u]:indptr[u + 1]]`` are user u's items, oldest first; an item may repeat.

    ``indptr`` int64[num_users + 1], ``items`` int64[n].
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int64]

    @property
    def num_users(self) -> int:
        """Number of users, those without items included."""
        return len(self.indptr) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of items of each user, ``int64[num_users]``."""
        return np.diff(self.indptr)

    def row(self, user: int) -> NDArray[np.int64]:
        """Return one user's items, oldest first (a view)."""
        if not 0 <= user < self.num_users:
            raise DataError(f"user {user} is out of range [0, {self.num_users})")
        return self.items[self.indptr[user] : self.indptr[user + 1]]

    def padded(
        self, users: ArrayLike, *, max_length: int, side: Literal["left", "right"] = "left", padding: int = -1
    ) -> NDArray[np.int64]:
        """Return the last ``max_length`` items of ``users`` int64[B] as int64[B, max_length], oldest first.

        ``side``: where the padding goes when a sequence is shorter.
        """
        wanted = np.asarray(users, dtype=np.int64)
        if max_length < 1:
            raise DataError(f"max_length must be at least 1, got {max_length}")
        if side not in ("left", "right"):
            raise DataError(f"side must be 'left' or 'right', got {side!r}")
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.num_users):
            bad = wanted[(wanted < 0) | (wanted >= self.num_users)][0]
            raise DataError(f"user {bad} is out of range [0, {self.num_users})")
        kept = np.minimum(self.indptr[wanted + 1] - self.indptr[wanted], max_length)
        slots = np.arange(max_length) - (max_length - kept if side == "left" else np.zeros_like(kept))[:, None]
        filled = (slots >= 0) & (slots < kept[:, None])
        out = np.full((len(wanted), max_length), padding, dtype=np.int64)
        source = (self.indptr[wanted + 1] - kept)[:, None] + slots
        out[filled] = self.items[source[filled]]
        return out


def build_sequences(
    users: NDArray[np.int64],
    items: NDArray[np.int64],
    *,
    num_users: int,
    time: NDArray[np.int64] | NDArray[np.float64] | None = None,
) -> UserSequences:
    """Order each user's rows by time; ties, and all rows when ``time`` is None, stay in file order."""
    if len(users) != len(items) or (time is not None and len(time) != len(users)):
        raise DataError(f"columns differ in length: {len(users)} users, {len(items)} items")
    if len(users) and not (users.min() >= 0 and users.max() < num_users):
        raise DataError(f"user ids {users.min()} to {users.max()} are not all in [0, {num_users})")
    if time is not None and time.dtype.kind == "f" and np.isnan(time).any():
        raise DataError(
            f"{int(np.isnan(time).sum())} row(s) without time, first: row {int(np.argmax(np.isnan(time))) + 1}"
        )
    order = np.argsort(users, kind="stable") if time is None else np.lexsort((time, users))
    indptr = np.zeros(num_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=num_users), out=indptr[1:])
    return UserSequences(indptr, np.asarray(items[order], dtype=np.int64))
