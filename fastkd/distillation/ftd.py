"""FTD: Full Topology Distillation.

Kang et al., "Topology distillation for recommender system" (KDD'21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fastkd import ops
from fastkd.core.interactions import Interactions
from fastkd.distillation._features import (
    KINDS,
    expected_entities,
    members_of,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation.checks import not_negative, one_of
from fastkd.distillation.cost import VALUE, Cost, Shape, Work
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, Step
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class FTDConfig:
    """Options of FTD; the default is the authors'.

    ``weight``: lambda, for a sum over all ordered pairs of the batch's distinct users and items. ``reduction`` over
    pairs.
    """

    weight: float = 1e-3
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        one_of("reduction", self.reduction, ("sum", "mean"))


class FTD(Method):
    """L = sum_{ij} (cos(t_i, t_j) - cos(s_i, s_j))^2 over the batch's distinct users and items, together.

    No projector: cosines compare across widths. Nothing is trained beside the student, nothing drawn.
    """

    name: ClassVar[str] = "ftd"
    paper: ClassVar[str] = "Kang et al., KDD'21"
    config_type: ClassVar[type[FTDConfig]] = FTDConfig
    knowledge: ClassVar[str] = "vectors"
    config: FTDConfig

    @classmethod
    def cost(cls, config: FTDConfig, at: Shape) -> Cost:
        """Return the cost of three Gram matrices and their gradients."""
        rows, narrow, wide = expected_entities(at), at.dim, at.teacher_dim
        flops = 2.0 * rows * (wide**2 + 3.0 * narrow * (narrow + wide))
        return Cost(step=Work(flops, 3.0 * VALUE * rows * (narrow + wide)), every=0)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors; a teacher of lists is refused."""
        self._teacher = teacher_vectors(teacher, student, train)

    def loss(self, step: Step) -> LossParts:
        """Return weight * the distance between the two topologies."""
        sets = {kind: members_of(kind, step.batch) for kind in KINDS}
        student = torch.cat([student_rows(kind, step.tables, sets[kind].ids) for kind in KINDS])
        teacher = torch.cat([teacher_rows(kind, self._teacher, sets[kind].ids) for kind in KINDS])
        weights = torch.cat([sets[kind].weights for kind in KINDS])
        distance = ops.topology_distance(student, teacher, weights=weights)
        loss = distance.loss
        if self.config.reduction == "mean":
            loss = loss / distance.pairs.clamp(min=1.0)
        return LossParts(kd=self.config.weight * loss, parts={"ftd": loss.detach()})


METHODS.add(FTD.name, FTD)
