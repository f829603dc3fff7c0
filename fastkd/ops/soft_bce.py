"""Binary cross entropy with a teacher's probabilities as targets.

Lee et al., "Collaborative distillation for top-N recommendation" (ICDM'19): ``q = sigma((t + T2) / T1)``; Kweon et al.,
"Bidirectional distillation for top-K recommender system" (WWW'21): ``q = sigma(t / T)``.
"""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import soft_bce as reference
from fastkd.ops._checks import check_constant, check_float, check_number
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss

_native = define_row_loss(
    "soft_bce(Tensor scores, Tensor teacher, Tensor? weights, float temperature, float shift, bool gradient,"
    " str backend) -> (Tensor, Tensor)",
    differentiable=1,
)


def soft_bce(
    scores: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    shift: float = 0.0,
    weights: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``loss_b = sum_c w_bc (-q_bc log sigma(s_bc) - (1 - q_bc) log sigma(-s_bc))``, q = sigma((t + shift) / T).

    ``scores``: s, Float[B, C], the student's logits. -inf is padding and counts for nothing.
    ``teacher``: t, Float[B, C], the teacher's scores of the same items. A constant: it gets no gradient.
    ``temperature``: T > 0, and ``shift``, finite: what makes the teacher's scores probabilities.
    ``weights``: w >= 0, Float[B, C], 1 if left out. A constant.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Scores may be of any finite size; NaN makes the loss of its row NaN.

    Returns Float[B] in the dtype of the scores, float32 at least. The gradient has the dtype of the scores.

    Raises TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("scores", scores, "B C")
    check_constant("teacher", teacher, "scores", scores)
    check_constant("weights", weights, "scores", scores)
    temperature, shift = check_number("temperature", temperature, positive=True), check_number("shift", shift)
    chosen = choose("soft_bce", backend, scores.device.type)
    if chosen == "reference":
        return reference.soft_bce(scores, teacher, weights, temperature, shift)
    return _native(scores, teacher, weights, temperature, shift, False, chosen)
