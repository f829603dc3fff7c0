"""Floor 2: negatives that are never positives, from counter-based streams, and drawing them ahead of time."""

from fastkd.sampling.distributions import Hard, Mixed, Popularity, Stratified, Uniform
from fastkd.sampling.in_batch import InBatchNegatives, InBatchSampler
from fastkd.sampling.negatives import NegativeSampler
from fastkd.sampling.prefetch import EpochPrefetcher

__all__ = [
    "EpochPrefetcher",
    "Hard",
    "InBatchNegatives",
    "InBatchSampler",
    "Mixed",
    "NegativeSampler",
    "Popularity",
    "Stratified",
    "Uniform",
]
