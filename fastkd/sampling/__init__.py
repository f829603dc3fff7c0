"""Floor 2: negatives that are never positives, from counter-based streams, and drawing them ahead of time."""

from fastkd.sampling.negatives import NegativeSampler
from fastkd.sampling.prefetch import EpochPrefetcher

__all__ = ["EpochPrefetcher", "NegativeSampler"]
