"""Pairwise losses of one positive against n negatives.

BPR: Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback" (UAI'09).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from fastkd.core.errors import did_you_mean
from fastkd.kernels.reference import pairwise as reference
from fastkd.ops._checks import check_constant, check_float, check_number, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss

_LOSSES = ("bpr", "margin")
_native = define_row_loss(
    "pairwise(Tensor positive, Tensor negative, Tensor? weights, str loss, float margin, bool gradient, str backend)"
    " -> (Tensor, Tensor, Tensor)",
    differentiable=2,
)


def pairwise(
    positive: Tensor,
    negative: Tensor,
    *,
    loss: Literal["bpr", "margin"] = "bpr",
    margin: float = 1.0,
    weights: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``loss_b = mean_j w_bj l(positive_b - negative_bj)``.

    ``positive``: Float[B], scores of the items that should win.
    ``negative``: Float[B, n], scores of the items that should lose.
    ``loss``: ``"bpr"``: l(x) = -log sigma(x); ``"margin"``: l(x) = max(0, margin - x), slope 0 at x = margin.
    ``margin``: finite; used by ``"margin"`` alone.
    ``weights``: w >= 0, Float[B, n], 1 if left out. A constant: it gets no gradient, and does not change the divisor.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    A score of -inf is padding: the mean is over the pairs that have both scores, and a row without any has loss 0 and
    gradient 0. Scores may be of any size up to 1e37; NaN makes the loss of its row NaN.

    Returns Float[B] in the dtype of the scores, float32 at least. Gradients have the dtype of their input.

    Raises TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("positive", positive, "B")
    check_float("negative", negative, "B n")
    check_rows("positive", positive, "negative", negative)
    check_constant("weights", weights, "negative", negative)
    check_kind(loss)
    margin = check_number("margin", margin)
    chosen = choose("pairwise", backend, positive.device.type)
    if chosen == "reference":
        return reference.pairwise(positive, negative, weights, loss=loss, margin=margin)
    return _native(positive, negative, weights, loss, margin, False, chosen)


def check_kind(loss: str) -> None:
    """Refuse the name of a loss that there is not."""
    if loss not in _LOSSES:
        raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, got {loss!r}.{did_you_mean(str(loss), _LOSSES)}")
