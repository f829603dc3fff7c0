"""One training step, a function of its arguments: batch -> loss -> gradient -> update.

    loss = base(tables, batch) + method.loss(step).kd       (without base where method.uses_base_loss is False)

Nothing here reads a value back from the device; the returned metrics are tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastkd.data.batch import Batch
from fastkd.distillation.method import BaseLoss, LossParts, Method, Step
from fastkd.models.protocol import Recommender, Tables, bpr_rows
from fastkd.training.config import Amp, Reduction
from fastkd.training.optimisers import clip_groups

RowLosses = Callable[[Tables, Batch], Tensor]
"""A base loss of each row of a batch, Float[B]."""

_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Learner:
    """What a step updates, and how.

    ``scaler`` is present for ``amp="fp16"`` only. ``clip_norm``: per optimiser group, or None. ``row_sparse``: losses
    are asked for row-sparse gradients of the tables.
    """

    student: Recommender
    method: Method | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler | None = None
    amp: Amp = "none"
    reduction: Reduction = "sum"
    clip_norm: float | None = None
    row_sparse: bool = False


def build_scaler(amp: Amp, device: torch.device) -> torch.amp.GradScaler | None:
    """Return a loss scaler for float16, None otherwise (bfloat16 has the range of float32)."""
    return torch.amp.GradScaler(device.type) if amp == "fp16" else None


def base_loss(tables: Tables, batch: Batch, *, reduction: Reduction = "sum", rows: RowLosses | None = None) -> Tensor:
    """Return the base loss of the batch: Bayesian personalised ranking, or a model's own ``rows``.

        sum_b  mean_j -log sigmoid(s(u_b, i_b) - s(u_b, j))        (``mean``: divided by B)

    ``tables``: user and item vectors. ``batch``: B interactions with n negatives each; a negative of -1 is
    padding and adds nothing. Returns Float[Tensor, ""]. Rendle et al., "BPR" (UAI'09).
    """
    losses = (rows or bpr_rows)(tables, batch)
    return losses.sum() if reduction == "sum" else losses.mean()


def train_step(learner: Learner, batch: Batch, *, epoch: int, step: int) -> dict[str, Tensor]:
    """Update the student (and what the method trains) on one batch.

    ``epoch``, ``step`` (global) start at 0. Returns named Float[Tensor, ""] on the device: ``loss``, ``base``, with a
    method ``kd`` and its parts as ``kd/NAME``, with clipping ``grad_norm/GROUP``.
    """
    learner.student.train()
    with _autocast(learner.amp, batch.users.device):
        loss, metrics = _forward(learner, batch, epoch, step)
    return metrics | _update(learner, loss)


def _forward(learner: Learner, batch: Batch, epoch: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
    tables = learner.student.tables()
    if learner.row_sparse:
        tables = replace(tables, sparse=True)
    if learner.method is not None and not learner.method.uses_base_loss:
        return _method_alone(learner, learner.method, batch, tables, epoch, step)
    repeat = _base_loss_of(learner, epoch, step)
    base = repeat(tables, batch).float()
    if learner.method is None:
        return base, {"loss": base.detach(), "base": base.detach()}
    parts: LossParts = learner.method.loss(Step(batch, tables, epoch, step, repeat))
    kd = parts.kd.float()
    loss = base + kd
    metrics = {"loss": loss.detach(), "base": base.detach(), "kd": kd.detach()}
    return loss, metrics | {f"kd/{name}": value.detach() for name, value in parts.parts.items()}


def _base_loss_of(learner: Learner, epoch: int, step: int) -> BaseLoss:
    """Return the base loss of this step as a function of tables, batch and the model that they are of."""

    def loss(tables: Tables, batch: Batch, model: Recommender | None = None) -> Tensor:
        rows = functools.partial((model or learner.student).row_losses, epoch=epoch, step=step)
        return base_loss(tables, batch, reduction=learner.reduction, rows=rows)

    return loss


def _method_alone(
    learner: Learner, method: Method, batch: Batch, tables: Tables, epoch: int, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a method that leaves the base loss out; there is no ``base`` to report then."""
    repeat = _base_loss_of(learner, epoch, step)
    parts: LossParts = method.loss(Step(batch, tables, epoch, step, repeat))
    kd = parts.kd.float()
    metrics = {"loss": kd.detach(), "kd": kd.detach()}
    return kd, metrics | {f"kd/{name}": value.detach() for name, value in parts.parts.items()}


def _update(learner: Learner, loss: Tensor) -> dict[str, Tensor]:
    """Backward, clip, step; gradients are dropped, so that the next backward writes instead of adds."""
    optimizer, scaler = learner.optimizer, learner.scaler
    norms: dict[str, Tensor] = {}
    (loss if scaler is None else scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
    if learner.clip_norm is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)  # a norm means something only in the true scale
        norms = clip_groups(optimizer, learner.clip_norm)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)
    # float16 gradients overflow now and then; the scaler skips those steps, so their norms are no error.
    return {} if scaler is not None else {f"grad_norm/{name}": norm for name, norm in norms.items()}


def _autocast(amp: Amp, device: torch.device) -> AbstractContextManager[None]:
    if amp == "none":
        return nullcontext()
    return torch.autocast(device.type, dtype=_AMP_DTYPES[amp])
