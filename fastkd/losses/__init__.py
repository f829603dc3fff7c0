"""``nn.Module`` faces of the loss ops."""

from fastkd.losses.catalogue import CatalogueDivergenceLoss, CatalogueSoftmaxLoss, SampledSoftmaxLoss
from fastkd.losses.lambda_pairs import LambdaLoss
from fastkd.losses.modules import (
    BPRLoss,
    ListNetLoss,
    MarginLoss,
    RelaxedRankingLoss,
    SoftBCELoss,
    WeightedBCELoss,
)

__all__ = [
    "BPRLoss",
    "CatalogueDivergenceLoss",
    "CatalogueSoftmaxLoss",
    "LambdaLoss",
    "ListNetLoss",
    "MarginLoss",
    "RelaxedRankingLoss",
    "SampledSoftmaxLoss",
    "SoftBCELoss",
    "WeightedBCELoss",
]
