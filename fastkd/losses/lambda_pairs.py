"""The ``nn.Module`` face of lambda-weighted pairs."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from fastkd import ops
from fastkd.core.errors import did_you_mean
from fastkd.losses.modules import _RowLoss
from fastkd.ops._checks import check_number
from fastkd.ops._refuse import WEIGHT
from fastkd.ops.lambda_pairs import READS_GAINS, WEIGHTS, PairWeights


class LambdaLoss(_RowLoss):
    """``w_ij log(1 + exp(-sigma (s_i - s_j)))`` over the pairs of a list; see :func:`fastkd.ops.lambda_pairs`."""

    def __init__(
        self,
        weights: PairWeights = "lambdarank",
        sigma: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if weights not in WEIGHTS:
            hint = did_you_mean(str(weights), WEIGHTS)
            raise ValueError(f"weights must be one of {', '.join(WEIGHTS)}, got {weights!r}.{hint}")
        self.weights, self.sigma = weights, check_number("sigma", sigma, positive=True)

    def extra_repr(self) -> str:  # noqa: D102
        return f"weights={self.weights!r}, sigma={self.sigma!r}, {super().extra_repr()}"

    def forward(self, scores: Tensor, gains: Tensor | None = None) -> Tensor:
        """Return the loss of ``scores`` Float[B, K], best first by the teacher, and what they are worth."""
        rows = ops.lambda_pairs(scores, gains, weights=self.weights, sigma=self.sigma, backend=self.backend)
        if self.weights in READS_GAINS:
            self._refuse(lambda: scores != -math.inf, ("gains", gains, WEIGHT))
        return self._reduce(rows, ("scores", scores), ("gains", gains))

    def from_embeddings(
        self,
        users: Tensor,
        items: Tensor,
        ids: Tensor,
        gains: Tensor | None = None,
        *,
        validate: bool | None = None,
    ) -> Tensor:
        """Return the loss of vectors; see :func:`fastkd.ops.lambda_pairs_from_embeddings`."""
        rows = ops.lambda_pairs_from_embeddings(
            users,
            items,
            ids,
            gains,
            weights=self.weights,
            sigma=self.sigma,
            validate=self._checks(validate),
            backend=self.backend,
        )
        return self._reduce(rows)
