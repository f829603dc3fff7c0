"""Which rows of a batch serve as each other's negatives, written plainly: the truth for the C++ look-up.

Column c holds the item of row c. It is no negative of row b when ``c == b``, when ``positives[c] == positives[b]``, or
when the user of row b has touched ``positives[c]``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class InBatch:
    """Row by row in numpy; the same face as ``fastkd._native.InBatch``."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        self.indptr, self.indices, self.num_items = indptr, indices, num_items

    def left_out(
        self, users: NDArray[np.int64], positives: NDArray[np.int64], threads: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return (indptr, columns): for each row the columns that are no negatives, ascending."""
        del threads
        rows = []
        for user, own in zip(users, positives, strict=True):
            history = self.indices[self.indptr[user] : self.indptr[user + 1]]
            rows.append(np.flatnonzero((positives == own) | np.isin(positives, history)).astype(np.int32))
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)]).astype(np.int64)
        return indptr, np.concatenate([np.zeros(0, dtype=np.int32), *rows])
