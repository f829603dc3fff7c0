"""PHR: Personalised Hint Regression.

Kang et al., "Personalized knowledge distillation for recommender system" (Knowledge-Based Systems 2022). The paper
could not be read in full: the formulas are those that Nguyen et al. give of it in "HyperKDMA" (2022), and of their
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd import ops
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.distillation._features import (
    Kind,
    expected_entities,
    members_of,
    squared_error,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation._projectors import dense_work, uniform
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of
from fastkd.distillation.cost import VALUE, Cost, Shape, held
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class PHRConfig:
    """Options of PHR.

    ``weight``: lambda, for a sum over distinct entities. ``hidden``: H of the hyper-networks, None for T (1 + S) / 2.
    ``rank``: None for full maps, else W = A B with A [T, rank], B [rank, S], for widths whose full hyper-network does
    not fit. ``enriched``: contexts hold the mean of the counterparts' teacher vectors too. ``shared``: one
    hyper-network for users and items, as in HyperKDMA's code. ``reduction`` over distinct entities of a kind.
    """

    weight: float = 0.01
    hidden: int | None = None
    rank: int | None = None
    enriched: bool = True
    shared: bool = False
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        for name, value in (("hidden", self.hidden), ("rank", self.rank)):
            if value is not None:
                at_least(1, **{name: value})
        one_of("reduction", self.reduction, ("sum", "mean"))

    def weights(self, narrow: int, wide: int) -> tuple[int, int]:
        """Return the hidden width and the values that a hyper-network makes for one entity."""
        hidden = self.hidden or max(wide * (1 + narrow) // 2, 1)
        return hidden, self.rank * (narrow + wide) if self.rank else narrow * wide


class HyperNetwork(nn.Module):
    """Linear(T, H) - ReLU - Linear(H, map): a map from student to teacher width for each context vector."""

    def __init__(self, narrow: int, wide: int, config: PHRConfig, seeds: Seeds) -> None:
        super().__init__()
        random = seeds.torch("init")
        hidden, made = config.weights(narrow, wide)
        self.rank = config.rank
        self.w1, self.b1 = uniform(random, wide, hidden, wide), uniform(random, wide, hidden)
        self.w2, self.b2 = uniform(random, hidden, made, hidden), uniform(random, hidden, made)

    def forward(self, student: Tensor, context: Tensor) -> Tensor:
        """Return ``y_n = W(v_n) s_n``, Float[n, T]."""
        if self.rank is None:
            return ops.hyper_projection(student, context, self.w1, self.b1, self.w2, self.b2)
        hidden = torch.relu(functional.linear(context, self.w1, self.b1))
        made = functional.linear(hidden, self.w2, self.b2)
        return low_rank(student, made, context.shape[1], self.rank)


def low_rank(student: Tensor, made: Tensor, wide: int, rank: int) -> Tensor:
    """Return ``A_n (B_n s_n)`` from ``made`` Float[n, rank (T + S)], A_n [T, rank] before B_n [rank, S]."""
    up = made[:, : wide * rank].view(-1, wide, rank)
    down = made[:, wide * rank :].view(-1, rank, student.shape[1])
    return torch.bmm(up, torch.bmm(down, student.unsqueeze(2).to(made.dtype))).squeeze(2)


def enriched(own: Tensor, others: Tensor, seen: Interactions) -> Tensor:
    """Return ``(t_e + mean_{j in N(e)} t_j) / 2``, Float[R, T]; ``t_e`` where N(e), row e of ``seen``, is empty."""
    offsets, ids = (part.to(own.device) for part in seen.to_torch())
    if seen.nnz == 0:
        return own
    mean = functional.embedding_bag(ids.to(offsets.dtype), others, offsets, mode="mean", include_last_offset=True)
    return torch.where((offsets.diff() > 0)[:, None], 0.5 * (own + mean), own)


class PHR(Method):
    """L = sum_{e in distinct users and items} |t_e - W(v_e) s_e|^2: each entity has a map of its own.

    A hyper-network makes W from ``v_e = (t_e + mean of the teacher's vectors of e's training counterparts) / 2``, made
    once. Nothing is drawn and nothing annealed. Gradient reaches the student and the hyper-networks.
    """

    name: ClassVar[str] = "phr"
    paper: ClassVar[str] = "Kang et al., KBS'22"
    config_type: ClassVar[type[PHRConfig]] = PHRConfig
    knowledge: ClassVar[str] = "vectors"
    config: PHRConfig

    @classmethod
    def cost(cls, config: PHRConfig, at: Shape) -> Cost:
        """Return the cost with one negative a row."""
        hidden, made = config.weights(at.dim, at.teacher_dim)
        weights = hidden * (at.teacher_dim + made)
        width = at.dim + 2 * at.teacher_dim + hidden + made
        step = dense_work(weights, expected_entities(at), width)
        contexts = held(at.users + at.items, at.teacher_dim) if config.enriched else 0.0
        return Cost(step=step, every=0, memory=3.0 * VALUE * (1 if config.shared else 2) * weights + contexts)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors, enrich them and make the hyper-networks; a teacher of lists is refused."""
        tables = self._teacher = teacher_vectors(teacher, student, train)
        self._contexts = tables
        if self.config.enriched:
            users = enriched(tables.users, tables.items, train)
            self._contexts = Tables(users, enriched(tables.items, tables.users, train.transpose()))
        self._networks = nn.ModuleDict()
        for kind in ("shared",) if self.config.shared else ("user", "item"):
            made = HyperNetwork(student.dim, tables.users.shape[1], self.config, self.seeds.child(f"phr/{kind}"))
            self._networks[kind] = made.to(device_of(student))

    def loss(self, step: Step) -> LossParts:
        """Return weight * the squared errors of distinct users and items."""
        of_users, of_items = self._error("user", step), self._error("item", step)
        parts = {"phr_users": of_users.detach(), "phr_items": of_items.detach()}
        return LossParts(kd=self.config.weight * (of_users + of_items), parts=parts)

    def _error(self, kind: Kind, step: Step) -> Tensor:
        ids, weights = members_of(kind, step.batch, self.config.reduction)
        network = self._networks["shared" if self.config.shared else kind]
        guess = network(student_rows(kind, step.tables, ids), teacher_rows(kind, self._contexts, ids))
        return squared_error(teacher_rows(kind, self._teacher, ids), guess, weights)

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the hyper-networks' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("phr/networks", list(self._networks.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the hyper-networks as one module."""
        return {"networks": self._networks}


METHODS.add(PHR.name, PHR)
