"""C++ samplers. Arrays are checked and never cast or copied; the GIL is released while drawing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def philox_words(key: int, user: int, first_block: int, out: NDArray[np.uint32], portable: bool = False) -> None:
    """Write the words of slots 4 * first_block .. of a user at attempt 0 to out, uint32[blocks, 4]."""

class UniformSampler:
    """Uniform draws from the items a user has not seen; reads the CSR arrays in place."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        """Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them."""

    def sample(
        self,
        users: NDArray[np.int64],
        key: int,
        out: NDArray[np.int64],
        exclude_lists: NDArray[Any] | None = None,
        replacement: bool = True,
        threads: int = 1,
    ) -> int:
        """Fill out, int64[B, n]; return the first row with fewer items left than slots (-1 padded), or -1."""

    def sample_epoch(self, key: int, out: NDArray[Any], threads: int = 1) -> int:
        """Fill out[nnz, n] (dtype of indices); return the first user with no item left (-1 padded), or -1."""

    @property
    def num_users(self) -> int:
        """Number of rows."""

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
