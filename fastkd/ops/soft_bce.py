"""Binary cross entropy with a teacher's probabilities as targets.

Lee et al., "Collaborative distillation for top-N recommendation" (ICDM'19): ``q = sigma((t + T2) / T1)``; Kweon et al.,
"Bidirectional distillation for top-K recommender system" (WWW'21): ``q = sigma(t / T)``.
"""

from __future__ import annotations

import math

from torch import Tensor

from fastkd.kernels.reference import soft_bce as reference
from fastkd.ops._checks import check_constant, check_float
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss
from fastkd.ops.listnet import check_temperature

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
    ``weights``: w, Float[B, C], 1 if left out. A constant.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Scores may be of any finite size; NaN makes the loss of its row NaN.

    Returns Float[B] in the dtype of the scores, float32 at least. The gradient has the dtype of the scores.

    Raises TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("scores", scores, "B C")
    check_constant("teacher", teacher, "scores", scores)
    check_constant("weights", weights, "scores", scores)
    check_temperature(temperature)
    check_shift(shift)
    chosen = choose("soft_bce", backend, scores.device.type)
    if chosen == "reference":
        return reference.soft_bce(scores, teacher, weights, temperature, shift)
    return _native(scores, teacher, weights, temperature, shift, False, chosen)


def check_shift(shift: float) -> None:
    """Refuse a shift that is not finite."""
    if not -math.inf < shift < math.inf:
        raise ValueError(f"shift must be a finite number, got {shift!r}")
