"""C++ samplers. Arrays are checked and never cast or copied; the GIL is released while drawing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

def philox_words(key: int, user: int, first_block: int, out: NDArray[np.uint32], portable: bool = False) -> None:
    """Write the words of slots 4 * first_block .. of a user at attempt 0 to out, uint32[blocks, 4]."""

class Sampler:
    """What the samplers share; reads the CSR arrays in place."""

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
        """Fill out[B, n] (int32 or int64); return the first row with fewer items left than slots (-1 padded), or -1."""

    def sample_epoch(
        self, key: int, out: NDArray[Any], threads: int = 1, indptr: NDArray[np.int64] | None = None
    ) -> int:
        """Fill out[nnz, n] (int32 or int64); return the first user with no item left (-1 padded), or -1."""

    @property
    def num_users(self) -> int:
        """Number of rows."""

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""

    @property
    def nbytes(self) -> int:
        """Bytes held now, beside the arrays it was built from."""

class UniformSampler(Sampler):
    """Uniform draws from the items a user has not seen."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        """Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them."""

class PopularitySampler(Sampler):
    """Draws in proportion to a mass per item."""

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[Any],
        num_items: int,
        masses: NDArray[np.uint64],
        threads: int = 1,
    ) -> None:
        """Check and keep the CSR arrays; masses, uint64[num_items], sum to num_items * 2**32."""

class MixedSampler(Sampler):
    """A share of uniform draws, the rest in proportion to a mass."""

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[Any],
        num_items: int,
        masses: NDArray[np.uint64],
        share: int,
        threads: int = 1,
    ) -> None:
        """As PopularitySampler; share of 2**32 is the probability that a slot is uniform."""

class StratifiedSampler(Sampler):
    """A share of the draws from each stratum, even within it."""

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[Any],
        num_items: int,
        stratum_of: NDArray[np.uint8],
        shares: NDArray[np.uint64],
    ) -> None:
        """Check and keep the CSR arrays; stratum_of is uint8[num_items], shares uint64[strata] sum to 2**32."""

class HardSampler(Sampler):
    """Of a number of uniform draws, the one whose vectors score best."""

    def __init__(
        self,
        indptr: NDArray[np.int64],
        indices: NDArray[Any],
        num_items: int,
        user_vectors: NDArray[np.float32],
        item_vectors: NDArray[np.float32],
        candidates: int,
    ) -> None:
        """Check and keep the CSR arrays and both tables, float32, which are read in place at each call."""

def shuffled(key: int, out: NDArray[Any]) -> None:
    """Fill out, int32 or int64 [nnz], with the order numpy's Generator(Philox(key=key)).permutation makes."""

class EpochTable:
    """Users, items and negatives of interactions in any order; reads the CSR arrays in place."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        """Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them."""

    def gather(
        self,
        entries: NDArray[Any],
        drawn: NDArray[Any],
        users: NDArray[Any],
        positives: NDArray[Any],
        negatives: NDArray[Any],
        threads: int = 1,
    ) -> None:
        """Fill users[B], positives[B], negatives[B, n] (dtype of entries) from entries[B] and drawn[nnz, n]."""

class InBatch:
    """Which rows of a batch may serve as each other's negatives."""

    def __init__(self, indptr: NDArray[np.int64], indices: NDArray[Any], num_items: int) -> None:
        """Check the CSR arrays (int64 indptr; int32 or int64 indices) and keep them."""

    def left_out(
        self, users: NDArray[np.int64], positives: NDArray[np.int64], threads: int = 1
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return (indptr, columns) of the columns that are no negatives of each row: itself, its item, its history."""
