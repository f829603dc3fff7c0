"""Lambda-weighted pairs: the logistic loss of every pair of a list, by what swapping the two would cost.

Burges, "From RankNet to LambdaRank to LambdaMART: an overview" (MSR-TR-2010-82); Wang et al., "The LambdaLoss framework
for ranking metric optimization" (CIKM'18).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fastkd.core.errors import did_you_mean
from fastkd.kernels.reference import lambda_pairs as reference
from fastkd.ops._checks import check_constant, check_device, check_float, check_number
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss, needs_gradient

PairWeights = Literal["lambdarank", "lambdaloss", "uniform"]
READS_GAINS = ("lambdarank", "lambdaloss")
WEIGHTS = (*READS_GAINS, "uniform")
_native = define_row_loss(
    "lambda_pairs(Tensor scores, Tensor? gains, Tensor? pair_weights, str weights, float sigma, bool gradient,"
    " str backend) -> (Tensor, Tensor)",
    differentiable=1,
)


def lambda_pairs(
    scores: Tensor,
    gains: Tensor | None = None,
    *,
    weights: PairWeights | Tensor = "lambdarank",
    sigma: float = 1.0,
    backend: str = "auto",
) -> Tensor:
    """Return ``loss_b = sum_{i<j} w_bij log(1 + exp(-sigma (s_bi - s_bj)))``.

    ``scores``: s, Float[B, K], the student's scores of a list in the order it should have, best first.
    ``gains``: g >= 0, Float[B, K], what each place is worth; ``1 / log2(2 + k)``, k from 0, if left out. A constant.
    ``weights``: w, a constant like the ranks r = 1, 2, ... it is made from, those of the student's scores now (of equal
    scores, the one further up the list first). With ``G = g / sum_k g_k / log2(1 + k)``, k over the scores there are:

    * ``"lambdarank"``: ``|G_i - G_j| |1 / log2(1 + r_i) - 1 / log2(1 + r_j)|``, the NDCG that swapping i and j changes;
    * ``"lambdaloss"``: ``|G_i - G_j| (1 / log2(1 + d) - 1 / log2(2 + d))``, ``d = |r_i - r_j|``: the NDCG-Loss2;
    * ``"uniform"``: 1, which is RankNet; ``gains`` then mean nothing;
    * Float[K, K], by the places of the pair in the list; only the part above the diagonal is read.

    ``sigma``: steepness, positive and finite.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    A score of -inf is padding: it is in no pair and takes no rank. A row without pairs, or whose gains are all 0, has
    loss 0. NaN makes the loss of its row NaN if anything stands beside it. The work grows with K^2, the memory with K,
    save in the reference. LambdaLoss is published with log2: this, divided by log 2.

    Returns Float[B] in the dtype of the scores, float32 at least. The gradient has the dtype of the scores.

    Raises TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("scores", scores, "B K")
    check_constant("gains", gains, "scores", scores)
    kind, given = check_pairs(weights, "scores", scores)
    sigma = check_number("sigma", sigma, positive=True)
    chosen = choose("lambda_pairs", backend, scores.device.type)
    if chosen == "reference":
        return reference.lambda_pairs(scores, gains, given, weights=kind, sigma=sigma)
    return _native(scores, gains, given, kind, sigma, False, chosen)


def check_pairs(weights: str | Tensor, name: str, lists: Tensor) -> tuple[str, Tensor | None]:
    """Return (kind of weights, Float[K, K] or None) for ``lists`` [B, K]; refuse what does not fit."""
    if isinstance(weights, str):
        if weights not in WEIGHTS:
            hint = did_you_mean(weights, WEIGHTS)
            raise ValueError(
                f"weights must be one of {', '.join(WEIGHTS)}, or a tensor Float[K K], got {weights!r}.{hint}"
            )
        return weights, None
    check_float("weights", weights, "K K")
    width = lists.shape[1]
    if weights.shape != (width, width):
        raise ValueError(f"weights must be [{width}, {width}] for lists of {width}, got {list(weights.shape)}")
    check_device(name, lists, "weights", weights)
    if needs_gradient(weights):
        raise ValueError("weights is a constant of this loss and gets no gradient; pass weights.detach()")
    return "given", weights
