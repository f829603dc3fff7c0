"""``nn.Module`` faces of the loss ops."""

from fastkd.losses.modules import BPRLoss, RelaxedRankingLoss, WeightedBCELoss

__all__ = ["BPRLoss", "RelaxedRankingLoss", "WeightedBCELoss"]
