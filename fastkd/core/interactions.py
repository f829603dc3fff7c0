"""User-item interactions as one validated CSR; trusted by everything after.

Invariants, checked once at construction: ``indptr`` is int64, starts at 0, never decreases and ends at
the number of entries; each row's item ids are strictly increasing (sorted, unique) and in
``[0, num_items)``. A violation names the offending row and value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastkd.core.errors import DataError

if TYPE_CHECKING:
    import torch

Ids = NDArray[np.signedinteger[Any]]
Offsets = NDArray[np.int64]


def id_dtype(count: int) -> type[np.signedinteger[Any]]:
    """Return the narrowest signed dtype that holds ids below ``count``."""
    return np.int32 if count <= 2**31 - 1 else np.int64


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Which items each user touched: ``indices[indptr[u]:indptr[u + 1]]``, sorted and unique.

    Build with :meth:`from_csr`, :meth:`from_pairs` or :meth:`from_scipy`; these validate. ``indptr`` is
    ``int64[num_users + 1]``; ``indices`` is int32, or int64 for catalogues past 2**31 - 1 items.
    """

    indptr: Offsets
    indices: Ids
    num_items: int
    _cache: dict[str, Any] = field(default_factory=dict, compare=False)

    # -- construction -------------------------------------------------------------------------------

    @classmethod
    def from_csr(cls, indptr: ArrayLike, indices: ArrayLike, num_items: int) -> Interactions:
        """Validate CSR arrays; raises ``DataError`` naming the first offending row and value."""
        pointers, ids = _integers(indptr, "indptr"), _integers(indices, "indices")
        pointers = np.ascontiguousarray(pointers, dtype=np.int64)
        _check_indptr(pointers, len(ids))
        _check_num_items(num_items)
        _check_rows(pointers, ids, num_items)
        ids = np.ascontiguousarray(ids, dtype=id_dtype(num_items))
        return cls(pointers, ids, int(num_items))

    @classmethod
    def from_pairs(
        cls,
        users: ArrayLike,
        items: ArrayLike,
        *,
        num_users: int | None = None,
        num_items: int | None = None,
        duplicates: Literal["refuse", "merge"] = "refuse",
    ) -> Interactions:
        """Build from parallel arrays of user and item ids, in any order.

        ``num_users``/``num_items`` default to the largest id plus one. A repeated pair is refused, or
        counted once with ``duplicates="merge"``.
        """
        user_ids, item_ids = _integers(users, "users"), _integers(items, "items")
        if user_ids.shape != item_ids.shape:
            raise DataError(f"users and items differ in length: {len(user_ids)} and {len(item_ids)}")
        rows = _count_of(user_ids, num_users, "user")
        columns = _count_of(item_ids, num_items, "item")
        if rows * columns >= 2**63:
            raise DataError(f"{rows} users x {columns} items: pairs do not fit 64-bit keys")
        # One sort of combined keys is several times faster than sorting pairs.
        keys = np.sort(user_ids.astype(np.int64) * columns + item_ids.astype(np.int64, copy=False))
        repeated = np.zeros(len(keys), dtype=bool)
        np.equal(keys[1:], keys[:-1], out=repeated[1:])
        if repeated.any():
            if duplicates == "refuse":
                user, item = divmod(int(keys[np.argmax(repeated)]), columns)
                raise DataError(
                    f"{int(repeated.sum())} repeated pair(s), first: user {user} item {item}; "
                    "pass duplicates='merge' to count each pair once"
                )
            keys = keys[~repeated]
        user_ids, item_ids = np.divmod(keys, max(columns, 1))
        indptr = np.zeros(rows + 1, dtype=np.int64)
        np.cumsum(np.bincount(user_ids, minlength=rows), out=indptr[1:])
        return cls(indptr, item_ids.astype(id_dtype(columns)), columns)

    @classmethod
    def from_scipy(cls, matrix: Any) -> Interactions:
        """Build from a scipy sparse matrix, which stays as it is; stored zeros are refused, other values ignored."""
        csr = matrix.tocsr()
        if csr is matrix and not csr.has_canonical_format:  # what follows would sort and merge the caller's own
            csr = csr.copy()
        csr.sum_duplicates()
        if (csr.data == 0).any():
            raise DataError(f"{int((csr.data == 0).sum())} stored zero(s); call eliminate_zeros() first")
        csr.sort_indices()
        return cls.from_csr(csr.indptr, csr.indices, int(csr.shape[1]))

    @classmethod
    def empty(cls, num_users: int, num_items: int) -> Interactions:
        """Return interactions without any entry."""
        _check_num_items(num_items)
        return cls(np.zeros(num_users + 1, dtype=np.int64), np.zeros(0, dtype=id_dtype(num_items)), num_items)

    # -- reading ------------------------------------------------------------------------------------

    @property
    def num_users(self) -> int:
        """Number of rows, users without interactions included."""
        return len(self.indptr) - 1

    @property
    def nnz(self) -> int:
        """Number of interactions."""
        return len(self.indices)

    def __len__(self) -> int:
        return self.num_users

    def __repr__(self) -> str:
        return f"Interactions({self.num_users} users x {self.num_items} items, {self.nnz} interactions)"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Interactions)
            and self.num_items == other.num_items
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    __hash__ = None  # type: ignore[assignment]

    def row(self, user: int) -> Ids:
        """Return the item ids of one user (a view)."""
        if not 0 <= user < self.num_users:
            raise DataError(f"user {user} is out of range [0, {self.num_users})")
        return self.indices[self.indptr[user] : self.indptr[user + 1]]

    def __iter__(self) -> Iterator[Ids]:
        return (self.indices[a:b] for a, b in zip(self.indptr[:-1], self.indptr[1:], strict=True))

    def degrees(self) -> Offsets:
        """Return the number of items of each user, ``int64[num_users]``."""
        return np.diff(self.indptr)

    def item_counts(self) -> Offsets:
        """Return the number of users of each item, ``int64[num_items]``."""
        counts = np.zeros(self.num_items, dtype=np.int64)
        # bincount casts what it counts to int64: in stretches, so that no copy outgrows the counts.
        step = max(2**20, self.num_items)
        for begin in range(0, self.nnz, step):
            counts += np.bincount(self.indices[begin : begin + step], minlength=self.num_items)
        return counts

    def entry_users(self) -> Ids:
        """Return the user of each entry, parallel to ``indices``."""
        users = np.arange(self.num_users, dtype=id_dtype(self.num_users))
        return np.repeat(users, self.degrees())

    def contains(self, users: ArrayLike, items: ArrayLike) -> NDArray[np.bool_]:
        """Return whether each (user, item) pair is an interaction, by binary search; an id out of range has none."""
        user_ids, item_ids = _integers(users, "users"), _integers(items, "items")
        if self.num_users * self.num_items >= 2**63:
            raise DataError(f"{self.num_users} users x {self.num_items} items: pairs do not fit 64-bit keys")
        keys = self._cache.get("keys")
        if keys is None:
            keys = self.entry_users().astype(np.int64) * self.num_items + self.indices
            self._cache["keys"] = keys
        users64, items64 = user_ids.astype(np.int64, copy=False), item_ids.astype(np.int64, copy=False)
        wanted = users64 * self.num_items + items64
        at = np.searchsorted(keys, wanted)
        found = np.zeros(wanted.shape, dtype=bool)
        # read without its sign, a negative id is past every count
        known = (users64.view(np.uint64) < self.num_users) & (items64.view(np.uint64) < self.num_items)
        inside = known & (at < len(keys))
        found[inside] = keys[at[inside]] == wanted[inside]
        return found

    # -- deriving -----------------------------------------------------------------------------------

    def rows(self, users: ArrayLike) -> Interactions:
        """Return the rows of ``users`` in that order; repeats allowed."""
        user_ids = _integers(users, "users").astype(np.int64)
        if len(user_ids) and not (user_ids.min() >= 0 and user_ids.max() < self.num_users):
            bad = user_ids[(user_ids < 0) | (user_ids >= self.num_users)][0]
            raise DataError(f"user {bad} is out of range [0, {self.num_users})")
        starts = self.indptr[user_ids]
        lengths = self.indptr[user_ids + 1] - starts
        indptr = np.zeros(len(user_ids) + 1, dtype=np.int64)
        np.cumsum(lengths, out=indptr[1:])
        positions = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
        return Interactions(indptr, self.indices[positions], self.num_items)

    def transpose(self) -> Interactions:
        """Return items x users: the users of each item."""
        order = np.argsort(self.indices, kind="stable")
        indptr = np.zeros(self.num_items + 1, dtype=np.int64)
        np.cumsum(self.item_counts(), out=indptr[1:])
        return Interactions(indptr, self.entry_users()[order], self.num_users)

    def union(self, other: Interactions) -> Interactions:
        """Return the pairs in either; shapes must agree."""
        if (self.num_users, self.num_items) != (other.num_users, other.num_items):
            raise DataError(f"shapes differ: {self!r} and {other!r}")
        return Interactions.from_pairs(
            np.concatenate([self.entry_users(), other.entry_users()]),
            np.concatenate([self.indices, other.indices]),
            num_users=self.num_users,
            num_items=self.num_items,
            duplicates="merge",
        )

    def to_torch(self, device: str | torch.device = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``(indptr, indices)`` as tensors; shared memory on the CPU, cached per device.

        A compiled program takes what is cached. Else it takes the arrays as they are: to a GPU they go in every call.
        """
        from fastkd.core._csr_tensors import csr_tensors

        return csr_tensors(self.indptr, self.indices, device, self._cache)

    def content_hash(self) -> str:
        """Return a hash of shape and entries, independent of the arrays' dtypes."""
        if "hash" not in self._cache:
            digest = hashlib.blake2b(digest_size=16)
            digest.update(f"{self.num_users}x{self.num_items}".encode())
            digest.update(self.indptr.tobytes())
            digest.update(self.indices.astype(np.int64).tobytes())
            self._cache["hash"] = digest.hexdigest()
        return str(self._cache["hash"])


def _integers(values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {array.shape}")
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise DataError(f"{name} must be integers, got dtype {array.dtype}")
    if array.dtype == np.uint64 and array.max() > np.uint64(2**63 - 1):
        raise DataError(f"{name} holds {array.max()}, past the largest 64-bit id {2**63 - 1}")
    return array


def _check_num_items(num_items: int) -> None:
    if num_items < 0:
        raise DataError(f"num_items must not be negative, got {num_items}")


def _check_indptr(indptr: Offsets, entries: int) -> None:
    if len(indptr) == 0 or indptr[0] != 0:
        raise DataError(f"indptr must start with 0, got {indptr[:1].tolist()}")
    falls = np.flatnonzero(np.diff(indptr) < 0)
    if len(falls):
        u = int(falls[0])
        raise DataError(f"indptr decreases at row {u}: {indptr[u]} then {indptr[u + 1]}")
    if indptr[-1] != entries:
        raise DataError(f"indptr ends at {indptr[-1]} but there are {entries} indices")


def _check_rows(indptr: Offsets, indices: NDArray[Any], num_items: int) -> None:
    bad = np.flatnonzero((indices < 0) | (indices >= num_items))
    if len(bad):
        at = int(bad[0])
        raise DataError(f"row {_row_of(indptr, at)} holds item {indices[at]}, outside [0, {num_items})")
    same_row = np.ones(max(len(indices) - 1, 0), dtype=bool)
    starts = indptr[1:-1]
    same_row[starts[(starts > 0) & (starts < len(indices))] - 1] = False
    falls = np.flatnonzero((indices[1:] <= indices[:-1]) & same_row)
    if len(falls):
        at = int(falls[0])
        problem = "twice" if indices[at] == indices[at + 1] else f"before {indices[at + 1]}: rows must be sorted"
        raise DataError(f"row {_row_of(indptr, at)} holds item {indices[at]} {problem}")


def _row_of(indptr: Offsets, entry: int) -> int:
    return int(np.searchsorted(indptr, entry, side="right")) - 1


def _count_of(ids: NDArray[Any], given: int | None, name: str) -> int:
    if len(ids) and ids.min() < 0:
        at = int(np.argmin(ids))
        raise DataError(f"negative {name} id {ids[at]} in entry {at}")
    largest = int(ids.max()) if len(ids) else -1
    if given is None:
        return largest + 1
    if largest >= given:
        raise DataError(f"{name} id {largest} in entry {int(np.argmax(ids))} is out of range [0, {given})")
    return int(given)
