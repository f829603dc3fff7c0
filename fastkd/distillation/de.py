"""DE: Distillation Experts.

Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fastkd.core.interactions import Interactions
from fastkd.distillation._experts import ExpertPair, Experts, RoutingConfig, mixture_memory, mixture_work
from fastkd.distillation._features import (
    Kind,
    entities_of,
    expected_entities,
    squared_error,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation.checks import device_of, not_negative, one_of
from fastkd.distillation.cost import Cost, Shape
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher

__all__ = ["DE", "DEConfig", "Experts"]


@dataclass(frozen=True, kw_only=True)
class DEConfig(RoutingConfig):
    """Options of DE; the defaults are the paper's. The experts' own: :class:`RoutingConfig`.

    ``weight``: lambda, for a sum over the batch's distinct entities beside a base loss summed over its rows.
    ``reduction`` over distinct entities.
    """

    weight: float = 1e-2
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(weight=self.weight)
        one_of("reduction", self.reduction, ("sum", "mean"))


class DE(Method):
    """The student's vectors must hold, behind a mixture of experts, what the teacher's vectors hold.

    L = sum_{users} |t - mix(s)|^2 + 1/2 (sum_{positive items} + sum_{negative items}) |t - mix(s)|^2 over the distinct
    entities of the batch. Gradient reaches the student and the experts; the student may be wider than the teacher.
    """

    name: ClassVar[str] = "de"
    paper: ClassVar[str] = "Kang et al., CIKM'20"
    config_type: ClassVar[type[DEConfig]] = DEConfig
    knowledge: ClassVar[str] = "vectors"
    config: DEConfig

    @classmethod
    def cost(cls, config: DEConfig, at: Shape) -> Cost:
        """Return the cost with all experts at work and one negative a row; 1/E of it once routing is hard."""
        work = mixture_work(config.experts, expected_entities(at), at)
        return Cost(step=work, every=0, memory=mixture_memory(config.experts, at))

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors and make the experts; a teacher of lists is refused."""
        self._teacher = teacher_vectors(teacher, student, train)
        widths = (student.dim, self._teacher.users.shape[1])
        self._experts = ExpertPair(self.config, widths, epochs, self.seeds, "de", device_of(student))

    def loss(self, step: Step) -> LossParts:
        """Return weight * the squared errors of distinct users and items."""
        of_users, of_items = self._error("user", step), self._error("item", step)
        parts = {"de_users": of_users.detach(), "de_items": of_items.detach()}
        return LossParts(kd=self.config.weight * (of_users + of_items), parts=parts)

    def _error(self, kind: Kind, step: Step) -> Tensor:
        """Return the weighted sum of ``|t - mix(s)|^2`` over entities of one kind."""
        ids, weights = entities_of(kind, step.batch, self.config.reduction)
        wanted = teacher_rows(kind, self._teacher, ids)
        student = student_rows(kind, step.tables, ids)
        guess = self._experts.guess(kind, ids, student, wanted, epoch=step.epoch, step=step.step)
        return squared_error(wanted, guess, weights)

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the experts' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("de/experts", list(self._experts.modules.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the experts of users and items as one module."""
        return {"experts": self._experts.modules}


METHODS.add(DE.name, DE)
