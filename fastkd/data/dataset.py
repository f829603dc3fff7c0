"""A split data set: what training, evaluation and serving read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastkd.core.errors import DataError
from fastkd.core.interactions import Interactions
from fastkd.data.reading import Reading
from fastkd.data.sequences import UserSequences

_LARGEST = 2**63 - 1


@dataclass(frozen=True, eq=False)
class IdMap:
    """Internal ids 0..n-1 <-> the ids of the source, invertible.

    ``originals``: int64 or str array; position = internal id. Values are unique.
    """

    originals: NDArray[Any]
    _order: dict[str, Any] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.originals)

    def decode(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Return the original ids of internal ``ids``; -1 (padding) is refused."""
        if len(ids) and (ids.min() < 0 or ids.max() >= len(self)):
            bad = ids[(ids < 0) | (ids >= len(self))].flat[0]
            raise DataError(f"internal id {bad} is out of range [0, {len(self)})")
        decoded: NDArray[Any] = self.originals[ids]
        return decoded

    def encode(self, originals: NDArray[Any]) -> NDArray[np.int64]:
        """Return the internal ids of original ids; an unknown one, or one of another kind, is refused by value."""
        if "sorter" not in self._order:
            self._order["sorter"] = np.argsort(self.originals, kind="stable")
        sorter = self._order["sorter"]
        wanted = typed_ids(np.asarray(originals))
        kind, kinds = ("text", "U") if self.originals.dtype.kind == "U" else ("integers", "iu")
        if wanted.dtype.kind not in kinds and wanted.size:
            raise DataError(f"ids are {kind} here, got dtype {wanted.dtype}, first: {wanted.flat[0].item()!r}")
        if wanted.dtype.kind == "u":
            # numpy compares unsigned and signed integers as float64, which rounds ids past 2**53
            past = wanted[wanted > np.uint64(_LARGEST)]
            if past.size:
                raise DataError(f"{past.size} unknown id(s), first: {past[0].item()}, past the largest id {_LARGEST}")
            wanted = wanted.astype(np.int64)
        at = np.searchsorted(self.originals, wanted, sorter=sorter)
        found = sorter[np.minimum(at, len(self) - 1)] if len(self) else np.zeros(wanted.shape, dtype=np.int64)
        missing = self.originals[found] != wanted if len(self) else np.ones(wanted.shape, dtype=bool)
        if missing.any():
            raise DataError(f"{int(missing.sum())} unknown id(s), first: {wanted[missing].flat[0].item()!r}")
        return found.astype(np.int64)

    @classmethod
    def identity(cls, count: int) -> IdMap:
        """Return the map whose original ids are 0..count-1."""
        return cls(np.arange(count, dtype=np.int64))


def typed_ids(ids: NDArray[Any]) -> NDArray[Any]:
    """Return Python's strings or integers in an object array, or numpy's own strings, as an array of that type."""
    if ids.dtype.kind == "T":
        return ids.astype(np.str_)
    if ids.dtype.kind != "O":
        return ids
    for kind, dtype in ((str, np.str_), ((int, np.integer), np.int64)):
        if all(isinstance(value, kind) and not isinstance(value, bool) for value in ids.flat):
            try:
                return ids.astype(dtype)
            except OverflowError as error:
                past = next(value for value in ids.flat if not -_LARGEST - 1 <= int(value) <= _LARGEST)
                raise DataError(f"id {past} is no 64-bit integer; such ids must be text") from error
    raise DataError(f"ids must be all integers or all text, got {', '.join(repr(value) for value in ids.flat[:3])}")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train, validation and test interactions over the same users and items.

    Every user has training items; a user without validation or test items has an empty row there. ``sequences``: the
    training items in the order of time, for sequential models, or None where no order is known. ``reading``: what the
    source held and what was left out of it, or None where nothing was read.
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    users: IdMap
    items: IdMap
    name: str = "data"
    sequences: UserSequences | None = None
    reading: Reading | None = None

    def __post_init__(self) -> None:
        for part, held in (("valid", self.valid), ("test", self.test)):
            if (held.num_users, held.num_items) != (self.num_users, self.num_items):
                raise DataError(f"{part} is {held!r} but train is {self.train!r}")
        if (len(self.users), len(self.items)) != (self.num_users, self.num_items):
            raise DataError(
                f"id maps hold {len(self.users)} users and {len(self.items)} items, train is {self.train!r}"
            )
        order = self.sequences
        if order is not None and not (
            np.array_equal(order.indptr, self.train.indptr) and len(order.items) == self.train.nnz
        ):
            raise DataError(f"sequences hold {len(order.items)} items, not those of each user in {self.train!r}")
        bare = np.flatnonzero(self.train.degrees() == 0)
        if len(bare):
            raise DataError(
                f"{len(bare)} user(s) without training items, first: {self.users.originals[bare[0]].item()!r}; "
                "drop them (k-core filter) or use another split"
            )

    @property
    def num_users(self) -> int:
        """Number of users."""
        return self.train.num_users

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
        return self.train.num_items

    def content_hash(self) -> str:
        """Return a hash of all three parts; the name and original ids do not enter."""
        return "-".join(part.content_hash()[:12] for part in (self.train, self.valid, self.test))
