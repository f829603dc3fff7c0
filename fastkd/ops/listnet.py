"""Cross entropy between the teacher's and the student's softmax over a given list.

Cao et al., "Learning to rank: from pairwise approach to listwise approach" (ICML'07), top-one probabilities; in
recommendation the soft-label cross entropy of list distillation, and, over sampled ids, the sampled softmax.
"""

from __future__ import annotations

from torch import Tensor

from fastkd.kernels.reference import listnet as reference
from fastkd.ops._checks import check_constant, check_float, check_number
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define_row_loss

_native = define_row_loss(
    "listnet(Tensor scores, Tensor teacher, float temperature, bool gradient, str backend) -> (Tensor, Tensor)",
    differentiable=1,
)


def listnet(scores: Tensor, teacher: Tensor, *, temperature: float = 1.0, backend: str = "auto") -> Tensor:
    """Return ``loss_b = -sum_c softmax(t_b / T)_c log softmax(s_b / T)_c``.

    ``scores``: s, Float[B, C], the student's scores of a list. ``teacher``: t, Float[B, C], the teacher's scores of the
    same list. A constant: it gets no gradient. For given probabilities q pass their logarithms.
    ``temperature``: T > 0. There is no factor T^2: the caller multiplies where a method asks for it.
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    A score of -inf, the student's or the teacher's, is padding: its place counts in neither softmax. A row of padding
    has loss 0 and gradient 0. Scores may be of any size up to 1e37; NaN or +inf in a row makes its loss NaN.

    Returns Float[B] in the dtype of ``scores``, float32 at least. The gradient has the dtype of ``scores``.

    Raises TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.
    """
    check_float("scores", scores, "B C")
    check_constant("teacher", teacher, "scores", scores)
    temperature = check_number("temperature", temperature, positive=True)
    chosen = choose("listnet", backend, scores.device.type)
    if chosen == "reference":
        return reference.listnet(scores, teacher, temperature)
    return _native(scores, teacher, temperature, False, chosen)
