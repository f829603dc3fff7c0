"""Binary cross entropy between scores and soft targets, weighted per entry.

Lee et al., "Collaborative distillation for top-N recommendation" (ICDM'19) trains a student on it.
"""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import weighted_bce as reference
from fastkd.ops._checks import check_constant, check_float
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss

_native = define_row_loss(
    "weighted_bce(Tensor scores, Tensor targets, Tensor? weights, bool gradient, str backend) -> (Tensor, Tensor)",
    differentiable=1,
)


def weighted_bce(scores: Tensor, targets: Tensor, *, weights: Tensor | None = None, backend: str = "auto") -> Tensor:
    """Return ``loss_b = sum_c w_bc (-q_bc log sigma(s_bc) - (1 - q_bc) log sigma(-s_bc))``.

    ``scores``: s, Float[B, C], logits. -inf is padding and counts for nothing.
    ``targets``: q, Float[B, C], probabilities. A constant: it gets no gradient.
    ``weights``: w >= 0, Float[B, C], 1 if left out. A constant.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Scores may be of any finite size; NaN makes the loss of its row NaN.

    Returns Float[B] in the dtype of the scores, float32 at least. The gradient has the dtype of the scores.

    Raises TypeError, ValueError: tensors that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("scores", scores, "B C")
    check_constant("targets", targets, "scores", scores)
    check_constant("weights", weights, "scores", scores)
    chosen = choose("weighted_bce", backend, scores.device.type)
    if chosen == "reference":
        return reference.weighted_bce(scores, targets, weights)
    return _native(scores, targets, weights, False, chosen)
