"""HTD: Hierarchical Topology Distillation.

Kang et al., "Topology distillation for recommender system" (KDD'21).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation._experts import ExpertPair, RoutingConfig, mixture_memory, mixture_work
from fastkd.distillation._features import (
    KINDS,
    Kind,
    expected_entities,
    members_of,
    squared_error,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation.checks import device_of, not_negative, one_of
from fastkd.distillation.cost import VALUE, Cost, Shape, Work
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher
from fastkd.ops.topology_distance import Distance


@dataclass(frozen=True, kw_only=True)
class HTDConfig(RoutingConfig):
    """Options of HTD; the defaults are the authors'. ``experts`` and annealing: :class:`RoutingConfig`.

    ``weight``: lambda, for sums over entities and pairs. ``gamma``: the topology's share; the rest is that of the
    regression which forms the groups. ``pairs``: ``"paper"``, prototypes against entities of other groups and all pairs
    within a group; ``"code"``, against all entities, and only pairs of positive teacher cosine, as in the authors'
    program. ``prototype_gradient``: whether gradient flows through the student's prototypes too (not in their program).
    ``reduction``: ``"mean"`` takes the mean over entities, and over pairs.
    """

    weight: float = 1e-3
    gamma: float = 0.5
    pairs: Literal["paper", "code"] = "paper"
    prototype_gradient: bool = False
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(weight=self.weight, gamma=self.gamma)
        if self.gamma > 1:
            raise ConfigError(f"gamma must be in [0, 1], got {self.gamma}")
        one_of("pairs", self.pairs, ("paper", "code"))
        one_of("reduction", self.reduction, ("sum", "mean"))


class Rows(NamedTuple):
    """Entities of one kind: Int64[n], Float[n, S], Float[n, T]; weights Float[n] in the regression, 0 if empty."""

    ids: Tensor
    student: Tensor
    teacher: Tensor
    weights: Tensor


class HTD(Method):
    """L = gamma (group topology + entity topology) + (1 - gamma) regression, over distinct users and items.

    Regression: DE's, with experts per kind; it alone trains the selection nets, which put each entity in the group of
    the expert they prefer (without noise). Group topology: cosines of group prototypes (means of a group's members in
    the batch, constants) with entities, student against teacher. Entity topology: cosines within a group. Users and
    items have groups of their own, so only the group level compares across.
    """

    name: ClassVar[str] = "htd"
    paper: ClassVar[str] = "Kang et al., KDD'21"
    config_type: ClassVar[type[HTDConfig]] = HTDConfig
    knowledge: ClassVar[str] = "vectors"
    config: HTDConfig

    @classmethod
    def cost(cls, config: HTDConfig, at: Shape) -> Cost:
        """Return the cost with all experts at work and entities spread evenly over groups."""
        rows, groups, width = expected_entities(at), 2 * config.experts, at.dim + at.teacher_dim
        cosines = groups * rows + rows**2 / groups
        work = mixture_work(config.experts, rows, at) + Work(2.0 * cosines * (width + 2 * at.dim), VALUE * cosines)
        return Cost(step=work, every=0, memory=mixture_memory(config.experts, at))

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors and make the experts; a teacher of lists is refused."""
        self._teacher = teacher_vectors(teacher, student, train)
        widths = (student.dim, self._teacher.users.shape[1])
        self._experts = ExpertPair(self.config, widths, epochs, self.seeds, "htd", device_of(student))

    def loss(self, step: Step) -> LossParts:
        """Return weight * both levels of topology and the regression."""
        config = self.config
        sides = {kind: self._rows(kind, step) for kind in KINDS}
        regression = torch.stack([self._regression(kind, sides[kind], step) for kind in KINDS]).sum()
        group, entity = (self._reduced(distance) for distance in self._topology(sides))
        loss = config.gamma * (group + entity) + (1.0 - config.gamma) * regression
        parts = {"htd_groups": group, "htd_entities": entity, "htd_regression": regression}
        return LossParts(kd=config.weight * loss, parts={name: value.detach() for name, value in parts.items()})

    def _rows(self, kind: Kind, step: Step) -> Rows:
        ids, weights = members_of(kind, step.batch, self.config.reduction)
        return Rows(ids, student_rows(kind, step.tables, ids), teacher_rows(kind, self._teacher, ids), weights)

    def _regression(self, kind: Kind, rows: Rows, step: Step) -> Tensor:
        guess = self._experts.guess(kind, rows.ids, rows.student, rows.teacher, epoch=step.epoch, step=step.step)
        return squared_error(rows.teacher, guess, rows.weights)

    def _topology(self, sides: dict[Kind, Rows]) -> tuple[Distance, Distance]:
        """Return the distances of the group level and of the entity level."""
        config, experts = self.config, self.config.experts
        student = torch.cat([sides[kind].student for kind in KINDS])
        teacher = torch.cat([sides[kind].teacher for kind in KINDS])
        present = torch.cat([(sides[kind].weights > 0).to(torch.float32) for kind in KINDS])
        groups = torch.cat(
            [self._experts[kind].groups(sides[kind].teacher) + at * experts for at, kind in enumerate(KINDS)]
        )
        by_paper = config.pairs == "paper"
        group = ops.prototype_distance(
            student, teacher, groups=groups, count=2 * experts, weights=present, exclude_own=by_paper,
            prototype_gradient=config.prototype_gradient,
        )  # fmt: skip
        entity = ops.topology_distance(student, teacher, weights=present, groups=groups, positive_only=not by_paper)
        return group, entity

    def _reduced(self, distance: Distance) -> Tensor:
        if self.config.reduction == "sum":
            return distance.loss
        return distance.loss / distance.pairs.clamp(min=1.0)

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the experts' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("htd/experts", list(self._experts.modules.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the experts of users and items as one module."""
        return {"experts": self._experts.modules}


METHODS.add(HTD.name, HTD)
