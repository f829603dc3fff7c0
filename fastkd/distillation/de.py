"""DE: Distillation Experts.

Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import VALUE, Cost, Shape, Work, distinct
from fastkd.distillation.entities import Entities, Reduction, weighted_entities
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class DEConfig:
    """Options of DE; the defaults are the paper's.

    ``weight``: lambda, for a sum over the batch's distinct entities beside a base loss summed over its rows.
    ``experts``: E per entity type. The routing temperature falls from ``temperature_start`` to ``temperature_end``
    over ``anneal_epochs`` (None: the planned length of training) and stays there. ``hard_below``: temperature
    under which each entity goes through its chosen expert alone. ``reduction`` over distinct entities.
    """

    weight: float = 1e-2
    experts: int = 30
    temperature_start: float = 1.0
    temperature_end: float = 1e-10
    anneal_epochs: int | None = None
    hard_below: float = 1e-4
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight, hard_below=self.hard_below)
        at_least(1, experts=self.experts)
        positive(temperature_start=self.temperature_start, temperature_end=self.temperature_end)
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.temperature_end > self.temperature_start:
            raise ConfigError(
                f"temperature_end={self.temperature_end} is above temperature_start={self.temperature_start}"
            )
        if self.anneal_epochs is not None:
            at_least(1, anneal_epochs=self.anneal_epochs)

    def temperature(self, epoch: int, planned_epochs: int) -> float:
        """Return ``tau_0 (tau_P / tau_0)^(epoch / anneal_epochs)``, held at tau_P afterwards."""
        progress = min(epoch / (self.anneal_epochs or planned_epochs), 1.0)
        return float(self.temperature_start * (self.temperature_end / self.temperature_start) ** progress)


class Experts(nn.Module):
    """E experts from student to teacher width, and the selection net that routes by the teacher's vector.

    An expert is Linear(S, H) - ReLU - Linear(H, T) with H = (S + T) // 2; the selection net is Linear(T, E). Weights
    start as ``torch.nn.Linear``'s do, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as a pure function of the seeds.
    """

    def __init__(self, student_dim: int, teacher_dim: int, experts: int, seeds: Seeds) -> None:
        super().__init__()
        hidden = max((student_dim + teacher_dim) // 2, 1)
        random = seeds.torch("init")

        def uniform(fan_in: int, *shape: int) -> nn.Parameter:
            bound = 1.0 / math.sqrt(fan_in)
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=random))

        self.w1 = uniform(student_dim, experts, hidden, student_dim)
        self.b1 = uniform(student_dim, experts, hidden)
        self.w2 = uniform(hidden, experts, hidden, teacher_dim)
        self.b2 = uniform(hidden, experts, teacher_dim)
        if experts > 1:
            self.selection = uniform(teacher_dim, experts, teacher_dim)
            self.selection_bias = uniform(teacher_dim, experts)

    def route(self, teacher: Tensor, noise: Tensor, temperature: float) -> Tensor:
        """Return gates Float32[n, E]: softmax((V t + c + g) / tau).

        This is the Gumbel-softmax of log softmax(V t + c): the log-normaliser is the same for all experts, so it
        cancels. In float32 whatever the autocast mode, since tau divides differences down to 1e-10.
        """
        return torch.softmax((self._logits(teacher) + noise) / temperature, dim=1)

    def choose(self, teacher: Tensor, noise: Tensor) -> Tensor:
        """Return the expert Int64[n] that the gates single out as tau goes to 0."""
        return (self._logits(teacher.detach()) + noise).detach().argmax(dim=1)

    def _logits(self, teacher: Tensor) -> Tensor:
        with torch.autocast(teacher.device.type, enabled=False):
            return functional.linear(teacher.float(), self.selection, self.selection_bias)

    def forward(self, student: Tensor, teacher: Tensor, noise: Tensor, temperature: float, hard: bool) -> Tensor:
        """Return the experts' guess of the teacher's vectors, Float[n, T].

        ``student`` Float[n, S]; ``teacher`` Float[n, T] routes; ``noise`` Float[n, E] is Gumbel(0, 1).
        """
        weights = (self.w1, self.b1, self.w2, self.b2)
        if len(self.w1) == 1:
            return ops.expert_mixture(student, *weights, gates=student.new_ones(len(student), 1))
        if hard:
            return ops.expert_choice(student, *weights, chosen=self.choose(teacher, noise))
        return ops.expert_mixture(student, *weights, gates=self.route(teacher, noise, temperature))


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
        hidden = max((at.dim + at.teacher_dim) // 2, 1)
        weights = config.experts * (at.dim + at.teacher_dim) * hidden
        entities = at.batch_users + distinct(2 * at.batch, at.items)
        # Both layers forward, twice that backward; vectors, hidden units and weights are read and written.
        moved = entities * (at.dim + at.teacher_dim + config.experts * hidden) + 2 * weights
        step = Work(2.0 * entities * weights, VALUE * moved) * 3
        return Cost(step=step, every=0, memory=3.0 * VALUE * 2 * weights)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors and make the experts; a teacher of lists is refused."""
        tables = teacher.tables()
        same_shape(teacher, student, train)
        device = device_of(student)
        self._teacher = Tables(tables.users.to(device), tables.items.to(device))
        self._epochs = max(epochs, 1)
        width = tables.users.shape[1]
        self._experts = nn.ModuleDict(
            {
                kind: Experts(student.dim, width, self.config.experts, self.seeds.child(f"de/{kind}")).to(device)
                for kind in ("user", "item")
            }
        )

    def loss(self, step: Step) -> LossParts:
        """Return weight * the squared errors of distinct users and items."""
        batch, reduction = step.batch, self.config.reduction
        users = weighted_entities([batch.users], reduction=reduction)
        items = weighted_entities([batch.positives, batch.negatives], factors=(0.5, 0.5), reduction=reduction)
        of_users = self._error("user", users, step, step.tables.users, self._teacher.users)
        of_items = self._error("item", items, step, step.tables.items, self._teacher.items)
        parts = {"de_users": of_users.detach(), "de_items": of_items.detach()}
        return LossParts(kd=self.config.weight * (of_users + of_items), parts=parts)

    def _error(self, kind: str, entities: Entities, step: Step, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted sum of ``|t - mix(s)|^2`` over entities of one kind."""
        temperature = self.config.temperature(step.epoch, self._epochs)
        wanted = functional.embedding(entities.ids, teacher)
        noise = self._noise(kind, step.step, len(entities.ids), wanted.device)
        guess = self._experts[kind](
            functional.embedding(entities.ids, student),
            wanted,
            noise,
            temperature,
            temperature < self.config.hard_below,
        )
        errors: Tensor = (wanted - guess).square().sum(dim=1) * entities.weights
        return errors.sum()

    def _noise(self, kind: str, step: int, rows: int, device: torch.device) -> Tensor:
        """Return Gumbel(0, 1) noise Float32[rows, E], a pure function of (seeds, step, kind, row)."""
        random = self.seeds.torch(f"de/{kind}", step, device=str(device))
        exponential = torch.empty(rows, self.config.experts, device=device).exponential_(generator=random)
        return -exponential.clamp(min=torch.finfo(torch.float32).tiny).log()

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the experts' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("de/experts", list(self._experts.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the experts of users and items as one module."""
        return {"experts": self._experts}


METHODS.add(DE.name, DE)
