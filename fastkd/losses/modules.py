"""``nn.Module`` faces of the loss ops: a reduction and a backend, chosen once."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from fastkd import ops
from fastkd.core.errors import did_you_mean

Reduction = Literal["sum", "mean", "none"]
_REDUCTIONS = ("sum", "mean", "none")


class _RowLoss(nn.Module):
    """A loss per row, then ``reduction`` over rows; the mean of no rows is 0."""

    def __init__(self, *, reduction: Reduction = "sum", backend: str = "auto") -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            hint = did_you_mean(str(reduction), _REDUCTIONS)
            raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}.{hint}")
        self.reduction = reduction
        self.backend = backend

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, backend={self.backend!r}"

    def _reduce(self, rows: Tensor) -> Tensor:
        if self.reduction == "none":
            return rows
        return rows.sum() if self.reduction == "sum" else rows.sum() / max(rows.shape[0], 1)


class RelaxedRankingLoss(_RowLoss):
    """Relaxed Plackett-Luce loss of a listed order; see :func:`fastkd.ops.relaxed_ranking`.

    ``reduction`` over rows: ``"sum"`` (the published weights of RRD are for it), ``"mean"`` or ``"none"``.
    """

    def forward(self, ranked: Tensor, unranked: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of scores ``ranked`` Float[B, K], best first, and ``unranked`` Float[B, L]."""
        return self._reduce(ops.relaxed_ranking(ranked, unranked, weights=weights, backend=self.backend))

    def from_embeddings(
        self,
        users: Tensor,
        items: Tensor,
        ranked_ids: Tensor,
        unranked_ids: Tensor,
        weights: Tensor | None = None,
        *,
        validate: bool = True,
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.relaxed_ranking_from_embeddings`."""
        rows = ops.relaxed_ranking_from_embeddings(
            users, items, ranked_ids, unranked_ids, weights=weights, validate=validate, backend=self.backend
        )
        return self._reduce(rows)


class BPRLoss(_RowLoss):
    """``-log sigma(positive - negative)``, mean over a row's negatives; see :func:`fastkd.ops.pairwise`."""

    def forward(self, positive: Tensor, negative: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of scores ``positive`` Float[B] and ``negative`` Float[B, n]."""
        return self._reduce(ops.pairwise(positive, negative, loss="bpr", weights=weights, backend=self.backend))


class WeightedBCELoss(_RowLoss):
    """Binary cross entropy with soft targets, summed over a row; see :func:`fastkd.ops.weighted_bce`."""

    def forward(self, scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of logits ``scores`` Float[B, C] and probabilities ``targets`` Float[B, C]."""
        return self._reduce(ops.weighted_bce(scores, targets, weights=weights, backend=self.backend))
