"""``nn.Module`` faces of the losses over the whole catalogue."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fastkd import ops
from fastkd.losses.modules import Reduction, _RowLoss
from fastkd.ops._catalogue import Exclude
from fastkd.ops._checks import check_number
from fastkd.ops.catalogue_divergence import Kind, check_kind
from fastkd.ops.catalogue_softmax import check_tail


class _CatalogueLoss(_RowLoss):
    def __init__(
        self, *, temperature: float = 1.0, reduction: Reduction = "sum", validate: bool = True, backend: str = "auto"
    ) -> None:
        super().__init__(reduction=reduction, validate=validate, backend=backend)
        self.temperature = check_number("temperature", temperature, positive=True)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, {super().extra_repr()}"

    def _options(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "validate": self.validate, "backend": self.backend}


class CatalogueSoftmaxLoss(_CatalogueLoss):
    """Cross entropy of a sparse teacher against the softmax over all items; see :func:`fastkd.ops.catalogue_softmax`.

    ``tail_mass``: the teacher's probability spread over what it does not list. ``validate``: check ids and
    probabilities; on a GPU it waits for the device.
    """

    def __init__(self, *, tail_mass: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.tail_mass = check_tail(tail_mass)

    def forward(
        self,
        users: Tensor,
        items: Tensor,
        target_ids: Tensor,
        target_probs: Tensor,
        exclude: Exclude = None,
        item_bias: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of ``users`` Float[B, D] and ``items`` Float[N, D] for targets [B, K]."""
        rows = ops.catalogue_softmax(
            users, items, target_ids, target_probs, exclude=exclude, tail_mass=self.tail_mass, item_bias=item_bias,
            **self._options(),
        )  # fmt: skip
        return self._reduce(rows)


class CatalogueDivergenceLoss(_CatalogueLoss):
    """Divergence of the student's softmax over all items from the teacher's, both from embeddings.

    ``kind``: ``"cross_entropy"`` (ListNet), ``"forward_kl"``, ``"reverse_kl"`` or ``"jensen_shannon"``; see
    :func:`fastkd.ops.catalogue_divergence`.
    """

    def __init__(self, kind: Kind = "forward_kl", **options: Any) -> None:
        super().__init__(**options)
        check_kind(kind)
        self.kind = kind

    def extra_repr(self) -> str:
        """Return the options that ``repr`` shows."""
        return f"kind={self.kind!r}, {super().extra_repr()}"

    def forward(
        self, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], exclude: Exclude = None
    ) -> Tensor:
        """Return the loss of ``student`` and ``teacher``, pairs (users Float[B, .], items Float[N, .])."""
        rows = ops.catalogue_divergence(student, teacher, kind=self.kind, exclude=exclude, **self._options())
        return self._reduce(rows)


class SampledSoftmaxLoss(_CatalogueLoss):
    """Softmax cross entropy over targets and drawn negatives; see :func:`fastkd.ops.sampled_softmax`."""

    def forward(
        self,
        users: Tensor,
        items: Tensor,
        target_ids: Tensor,
        negative_ids: Tensor,
        target_probs: Tensor | None = None,
        log_q: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of targets [B, K] and negatives [B, L]."""
        rows = ops.sampled_softmax(
            users, items, target_ids, negative_ids, target_probs=target_probs, log_q=log_q, **self._options()
        )
        return self._reduce(rows)
