"""``nn.Module`` faces of the loss ops: a reduction and a backend, chosen once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn

from fastkd import ops
from fastkd.core.errors import did_you_mean
from fastkd.ops._checks import check_number
from fastkd.ops._dispatch import check_backend
from fastkd.ops._refuse import PROBABILITY, WEIGHT, Range, refuse_nan_scores, refuse_outside

Reduction = Literal["sum", "mean", "none"]
_REDUCTIONS = ("sum", "mean", "none")


class _RowLoss(nn.Module):
    """A loss per row, then ``reduction`` over rows; the mean of no rows is 0.

    ``validate``: on the CPU refuse constants outside their range, and a loss of scores that comes out NaN, naming the
    value that made it.
    """

    def __init__(self, *, reduction: Reduction = "sum", validate: bool = True, backend: str = "auto") -> None:
        super().__init__()
        if reduction not in _REDUCTIONS:
            hint = did_you_mean(str(reduction), _REDUCTIONS)
            raise ValueError(f"reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}.{hint}")
        check_backend(backend)
        self.reduction = reduction
        self.validate = validate
        self.backend = backend

    def extra_repr(self) -> str:
        checked = "" if self.validate else ", validate=False"
        return f"reduction={self.reduction!r}, backend={self.backend!r}{checked}"

    def _checks(self, validate: bool | None) -> bool:
        return self.validate if validate is None else validate

    def _refuse(self, listed: Callable[[], Tensor], *constants: tuple[str, Tensor | None, Range]) -> None:
        """Refuse constants (name, values, range) of a loss of scores; ``listed``: where they are no padding's."""
        if self.validate:
            for constant in constants:
                refuse_outside(*constant, listed)

    def _reduce(self, rows: Tensor, *given: tuple[str, Tensor | None]) -> Tensor:
        """``given``: the scores and constants of the rows, by name."""
        if given and self.validate:
            refuse_nan_scores(rows, *given)
        if self.reduction == "none":
            return rows
        return rows.sum() if self.reduction == "sum" else rows.sum() / max(rows.shape[0], 1)


class RelaxedRankingLoss(_RowLoss):
    """Relaxed Plackett-Luce loss of a listed order; see :func:`fastkd.ops.relaxed_ranking`.

    ``reduction`` over rows: ``"sum"`` (the published weights of RRD are for it), ``"mean"`` or ``"none"``.
    """

    def forward(self, ranked: Tensor, unranked: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of scores ``ranked`` Float[B, K], best first, and ``unranked`` Float[B, L]."""
        rows = ops.relaxed_ranking(ranked, unranked, weights=weights, backend=self.backend)
        self._refuse(lambda: ranked != -math.inf, ("weights", weights, WEIGHT))
        return self._reduce(rows, ("ranked", ranked), ("unranked", unranked), ("weights", weights))

    def from_embeddings(
        self,
        users: Tensor,
        items: Tensor,
        ranked_ids: Tensor,
        unranked_ids: Tensor,
        weights: Tensor | None = None,
        *,
        validate: bool | None = None,
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.relaxed_ranking_from_embeddings`."""
        rows = ops.relaxed_ranking_from_embeddings(
            users,
            items,
            ranked_ids,
            unranked_ids,
            weights=weights,
            validate=self._checks(validate),
            backend=self.backend,
        )
        return self._reduce(rows)


class _PairwiseLoss(_RowLoss):
    _loss: Literal["bpr", "margin"] = "bpr"
    margin = 1.0

    def forward(self, positive: Tensor, negative: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of scores ``positive`` Float[B] and ``negative`` Float[B, n]."""
        rows = ops.pairwise(
            positive, negative, loss=self._loss, margin=self.margin, weights=weights, backend=self.backend
        )
        self._refuse(
            lambda: (positive != -math.inf).unsqueeze(1) & (negative != -math.inf), ("weights", weights, WEIGHT)
        )
        return self._reduce(rows, ("positive", positive), ("negative", negative), ("weights", weights))

    def from_embeddings(
        self,
        users: Tensor,
        items: Tensor,
        positive_ids: Tensor,
        negative_ids: Tensor,
        weights: Tensor | None = None,
        *,
        validate: bool | None = None,
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.pairwise_from_embeddings`."""
        rows = ops.pairwise_from_embeddings(
            users, items, positive_ids, negative_ids, loss=self._loss, margin=self.margin, weights=weights,
            validate=self._checks(validate), backend=self.backend,
        )  # fmt: skip
        return self._reduce(rows)


class BPRLoss(_PairwiseLoss):
    """``-log sigma(positive - negative)``, mean over a row's negatives; see :func:`fastkd.ops.pairwise`."""


class MarginLoss(_PairwiseLoss):
    """``max(0, margin - (positive - negative))``, mean over a row's negatives; see :func:`fastkd.ops.pairwise`."""

    _loss = "margin"

    def __init__(self, margin: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.margin = check_number("margin", margin)

    def extra_repr(self) -> str:  # noqa: D102
        return f"margin={self.margin!r}, {super().extra_repr()}"


class WeightedBCELoss(_RowLoss):
    """Binary cross entropy with soft targets, summed over a row; see :func:`fastkd.ops.weighted_bce`."""

    def forward(self, scores: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of logits ``scores`` Float[B, C] and probabilities ``targets`` Float[B, C]."""
        rows = ops.weighted_bce(scores, targets, weights=weights, backend=self.backend)
        self._refuse(lambda: scores != -math.inf, ("targets", targets, PROBABILITY), ("weights", weights, WEIGHT))
        return self._reduce(rows, ("scores", scores), ("targets", targets), ("weights", weights))

    def from_embeddings(
        self,
        users: Tensor,
        items: Tensor,
        ids: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        *,
        validate: bool | None = None,
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.weighted_bce_from_embeddings`."""
        rows = ops.weighted_bce_from_embeddings(
            users, items, ids, targets, weights=weights, validate=self._checks(validate), backend=self.backend
        )
        return self._reduce(rows)


class SoftBCELoss(_RowLoss):
    """Binary cross entropy with targets sigma((t + shift) / T), summed over a row; see :func:`fastkd.ops.soft_bce`."""

    def __init__(
        self,
        temperature: float = 1.0,
        shift: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.shift = check_number("shift", shift)

    def extra_repr(self) -> str:  # noqa: D102
        return f"temperature={self.temperature!r}, shift={self.shift!r}, {super().extra_repr()}"

    def forward(self, scores: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of logits ``scores`` Float[B, C] and the teacher's scores, Float[B, C]."""
        rows = ops.soft_bce(
            scores, teacher, temperature=self.temperature, shift=self.shift, weights=weights, backend=self.backend
        )
        self._refuse(lambda: scores != -math.inf, ("weights", weights, WEIGHT))
        return self._reduce(rows, ("scores", scores), ("teacher", teacher), ("weights", weights))

    def from_embeddings(
        self,
        users: Tensor,
        items: Tensor,
        ids: Tensor,
        teacher: Tensor,
        weights: Tensor | None = None,
        *,
        validate: bool | None = None,
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.soft_bce_from_embeddings`."""
        rows = ops.soft_bce_from_embeddings(
            users, items, ids, teacher, temperature=self.temperature, shift=self.shift, weights=weights,
            validate=self._checks(validate), backend=self.backend,
        )  # fmt: skip
        return self._reduce(rows)


class ListNetLoss(_RowLoss):
    """Cross entropy of the teacher's and the student's softmax over a list; see :func:`fastkd.ops.listnet`.

    Over sampled ids with one certain target it is the sampled softmax. No factor T^2.
    """

    def __init__(self, temperature: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.temperature = check_number("temperature", temperature, positive=True)

    def extra_repr(self) -> str:  # noqa: D102
        return f"temperature={self.temperature!r}, {super().extra_repr()}"

    def forward(self, scores: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of the student's and the teacher's scores of a list, both Float[B, C]."""
        rows = ops.listnet(scores, teacher, temperature=self.temperature, backend=self.backend)
        return self._reduce(rows, ("scores", scores), ("teacher", teacher))

    def from_embeddings(
        self, users: Tensor, items: Tensor, ids: Tensor, teacher: Tensor, *, validate: bool | None = None
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.listnet_from_embeddings`."""
        rows = ops.listnet_from_embeddings(
            users,
            items,
            ids,
            teacher,
            temperature=self.temperature,
            validate=self._checks(validate),
            backend=self.backend,
        )
        return self._reduce(rows)
