"""Relaxed Plackett-Luce loss: the listed order matters, the order of the rest does not.

Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20), relaxed ranking
distillation; with nothing unranked it is ListMLE (Xia et al., ICML'08).
"""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import relaxed_ranking as reference
from fastkd.ops._checks import check_constant, check_float, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss

_native = define_row_loss(
    "relaxed_ranking(Tensor ranked, Tensor unranked, Tensor? weights, bool gradient, str backend)"
    " -> (Tensor, Tensor, Tensor)",
    differentiable=2,
)


def relaxed_ranking(
    ranked: Tensor, unranked: Tensor, *, weights: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return ``loss_b = sum_k w_bk (log(sum_{j>=k} exp(r_bj) + sum_l exp(u_bl)) - r_bk)``.

    ``ranked``: r, Float[B, K], scores of the listed items, best first.
    ``unranked``: u, Float[B, L], scores of items that belong below all of them; L may be 0.
    ``weights``: w >= 0, Float[B, K], 1 if left out. A constant: it gets no gradient.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    A score of -inf is padding and counts for nothing, in both lists. A row with nothing ranked has loss 0 and
    gradient 0. Scores may be of any size up to 1e37; NaN or +inf in a row makes its loss and gradient NaN.

    Returns Float[B] in the dtype of the scores, float32 at least. Gradients have the dtype of their input.

    Raises TypeError, ValueError: tensors that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("ranked", ranked, "B K")
    check_float("unranked", unranked, "B L")
    check_rows("ranked", ranked, "unranked", unranked)
    check_constant("weights", weights, "ranked", ranked)
    chosen = choose("relaxed_ranking", backend, ranked.device.type)
    if chosen == "reference":
        return reference.relaxed_ranking(ranked, unranked, weights)
    return _native(ranked, unranked, weights, False, chosen)
