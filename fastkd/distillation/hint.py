"""Hint regression, as FitNets do it: a projector makes teacher vectors out of student vectors.

Romero et al., "FitNets: hints for thin deep nets" (ICLR'15); the recommender form is that of Zhu's KDs library. The
orthogonal projector and the centring: Miles et al., "VkD: improving knowledge distillation using orthogonal
projections" (CVPR'24).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd.core.interactions import Interactions
from fastkd.distillation._features import (
    KINDS,
    Kind,
    members_of,
    squared_error,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation._projectors import Draw, LinearMap, OrthogonalMap, Projector, dense_work
from fastkd.distillation.checks import below_one, device_of, not_negative, one_of, positive
from fastkd.distillation.cost import VALUE, Cost, Shape
from fastkd.distillation.entities import Entities, Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class HintConfig:
    """Options of hint regression; the defaults are the published ones of citeulike.

    ``weight``: lambda, for a sum over entities. ``projector``: ``"mlp"`` Linear - ReLU - Linear with ``hidden_ratio``
    times the teacher's width between and ``dropout`` before both, ``"linear"``, or ``"orthogonal"`` (VkD). ``bias`` of
    the linear one. ``entities``: ``"uniform"``, as many users and items as the batch has rows, drawn from all without
    replacement each step; ``"batch"``, the distinct ones of the batch. ``normalize``: both vectors to length 1.
    ``center``: the teacher's vectors of a step minus their mean (VkD). ``reduction`` over entities.
    """

    weight: float = 0.05
    projector: Literal["mlp", "linear", "orthogonal"] = "mlp"
    hidden_ratio: float = 5.0
    dropout: float = 0.2
    bias: bool = True
    entities: Literal["uniform", "batch"] = "uniform"
    normalize: bool = False
    center: bool = False
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        positive(hidden_ratio=self.hidden_ratio)
        below_one(dropout=self.dropout)
        one_of("projector", self.projector, ("mlp", "linear", "orthogonal"))
        one_of("entities", self.entities, ("uniform", "batch"))
        one_of("reduction", self.reduction, ("sum", "mean"))

    def hidden(self, teacher_dim: int) -> int:
        """Return the hidden width of the ``"mlp"`` projector."""
        return max(int(teacher_dim * self.hidden_ratio), 1)


class Hint(Method):
    """L = sum_{users} |t - P_U(s)|^2 + sum_{items} |t - P_I(s)|^2, with a projector for each kind.

    A table smaller than the batch is taken whole (the authors' code stops there). Gradient reaches the student and the
    projectors.
    """

    name: ClassVar[str] = "hint"
    paper: ClassVar[str] = "Romero et al., ICLR'15"
    config_type: ClassVar[type[HintConfig]] = HintConfig
    knowledge: ClassVar[str] = "vectors"
    config: HintConfig

    @classmethod
    def cost(cls, config: HintConfig, at: Shape) -> Cost:
        """Return the cost of a batch's rows of users and as many items."""
        middle = config.hidden(at.teacher_dim) if config.projector == "mlp" else 0
        weights = middle * (at.dim + at.teacher_dim) if middle else at.dim * at.teacher_dim
        rows = min(at.batch, at.users) + min(at.batch, at.items)
        step = dense_work(weights, rows, at.dim + at.teacher_dim + middle)
        return Cost(step=step, every=0, memory=3.0 * VALUE * 2 * weights)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors and make the projectors; a teacher of lists is refused."""
        self._teacher = teacher_vectors(teacher, student, train)
        device, width = device_of(student), self._teacher.users.shape[1]
        self._projectors = nn.ModuleDict({kind: self._made(kind, student.dim, width).to(device) for kind in KINDS})

    def _made(self, kind: Kind, narrow: int, wide: int) -> nn.Module:
        config, seeds = self.config, self.seeds.child(f"hint/{kind}")
        if config.projector == "linear":
            return LinearMap(narrow, wide, seeds, bias=config.bias)
        if config.projector == "orthogonal":
            return OrthogonalMap(narrow, wide, seeds)
        return Projector(narrow, wide, config.hidden(wide), seeds, dropout=config.dropout)

    def loss(self, step: Step) -> LossParts:
        """Return weight * the squared errors of users and items."""
        of_users, of_items = self._error("user", step), self._error("item", step)
        parts = {"hint_users": of_users.detach(), "hint_items": of_items.detach()}
        return LossParts(kd=self.config.weight * (of_users + of_items), parts=parts)

    def _error(self, kind: Kind, step: Step) -> Tensor:
        ids, weights = self._entities(kind, step)
        wanted = teacher_rows(kind, self._teacher, ids)
        if self.config.center:
            share = (weights > 0).to(wanted.dtype)
            wanted = wanted - (wanted * share[:, None]).sum(0) / share.sum().clamp(min=1.0)
        draw = Draw(self.seeds.child(f"hint/{kind}/dropout"), step.step, ids)
        guess = self._projectors[kind](student_rows(kind, step.tables, ids), draw)
        if self.config.normalize:
            wanted, guess = functional.normalize(wanted), functional.normalize(guess)
        return squared_error(wanted, guess, weights)

    def _entities(self, kind: Kind, step: Step) -> Entities:
        reduction = self.config.reduction
        if self.config.entities == "batch":
            return members_of(kind, step.batch, reduction)
        # Not the length of a table: some students would make it, user by user.
        tables = step.tables
        count = tables.num_users if kind == "user" else tables.num_items
        rows = min(len(step.batch.users), count)
        # On the host, where drawing without replacement does not touch the whole table.
        drawn = self.seeds.numpy(f"hint/{kind}", step.step).choice(count, rows, replace=False, shuffle=False)
        ids = torch.from_numpy(np.sort(drawn)).to(tables.device, torch.int64, non_blocking=True)
        share = 1.0 / max(rows, 1) if reduction == "mean" else 1.0
        return Entities(ids, torch.full((rows,), share, device=tables.device))

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the projectors' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("hint/projectors", list(self._projectors.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the projectors of users and items as one module."""
        return {"projectors": self._projectors}


METHODS.add(Hint.name, Hint)
