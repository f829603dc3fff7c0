"""RRD: Relaxed Ranking Distillation.

Kang et al., "DE-RRD: a knowledge distillation framework for recommender system" (CIKM'20).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, weighted_entities
from fastkd.distillation.method import METHODS, LossParts, Method, Step
from fastkd.distillation.refresh import teacher_ids
from fastkd.models.pairs import PairTables
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher
from fastkd.sampling import NegativeSampler

USER_BLOCK = 65536
"""Users drawn at a time, to bound what a refresh holds beside its result."""


@dataclass(frozen=True, kw_only=True)
class RRDConfig:
    """Options of RRD; the defaults are the paper's.

    ``weight``: lambda, for a sum over the batch's distinct users beside a base loss summed over its rows (with
    means on both sides multiply it by distinct users / rows). ``ranked``: K interesting items per user;
    ``unranked``: L uninteresting ones; ``top``: M, the teacher list they come from or stay out of.
    ``interesting``: ``"rank_decay"`` draws K of the M without replacement with weight exp(-rank / temperature),
    ``"topk"`` takes the first K (its authors later found this at least as good). ``reduction`` over distinct users.
    """

    weight: float = 1e-3
    ranked: int = 40
    unranked: int = 40
    top: int = 500
    temperature: float = 10.0
    interesting: Literal["rank_decay", "topk"] = "rank_decay"
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        at_least(1, ranked=self.ranked, top=self.top)
        at_least(0, unranked=self.unranked)
        positive(temperature=self.temperature)
        one_of("interesting", self.interesting, ("rank_decay", "topk"))
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.ranked > self.top:
            raise ConfigError(f"ranked={self.ranked} items cannot come from a list of top={self.top}")


class RRD(Method):
    """Each epoch: K interesting items per user in teacher order, L uninteresting ones; a relaxed Plackett-Luce loss.

    Lists cover the items outside the user's training positives. A user with fewer candidates than K, or than M + L,
    gets what there is; the rest is padding, which the loss leaves out.
    """

    name: ClassVar[str] = "rrd"
    paper: ClassVar[str] = "Kang et al., CIKM'20"
    config_type: ClassVar[type[RRDConfig]] = RRDConfig
    knowledge: ClassVar[str] = "ranked lists"
    config: RRDConfig

    @classmethod
    def cost(cls, config: RRDConfig, at: Shape) -> Cost:
        """Return the cost: one ranking by the teacher; a loss over K + L items per distinct user."""
        drawn = config.ranked + config.unranked
        return Cost(
            prepare=ranking(at.users, at.items, at.teacher_dim) + storing(at.users, config.top),
            refresh=storing(at.users, drawn),
            step=scoring(at.batch_users, drawn, at.dim),
            memory=held(at.users, config.top + drawn),
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank the catalogue once with the teacher: ``top`` items per user, kept as int32."""
        same_shape(teacher, student, train)
        self._top = teacher_ids(self, teacher, self.config.top, train, torch.device("cpu"))
        self._lengths = (self._top >= 0).sum(1)
        self._sampler = NegativeSampler(train, seed=self.seeds.key("rrd/unranked") >> 1)
        self._device = device_of(student)

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw both lists for all users: a pure function of (seeds, epoch, user, slot)."""
        users = len(self._top)
        ranked = torch.empty(users, self.config.ranked, dtype=torch.int32)
        unranked = torch.empty(users, self.config.unranked, dtype=torch.int32)
        # In blocks, because draws come as int64 and are kept as int32.
        for start in range(0, users, USER_BLOCK):
            block = torch.arange(start, min(start + USER_BLOCK, users))
            ranked[block] = self._interesting(block, epoch)
            unranked[block] = self._sampler.sample(
                block,
                self.config.unranked,
                epoch=epoch,
                exclude_lists=self._top[block],
                replacement=False,
                on_exhausted="pad",
            ).to(torch.int32)
        self._ranked, self._unranked = ranked.to(self._device), unranked.to(self._device)

    def _interesting(self, users: Tensor, epoch: int) -> Tensor:
        """Return interesting items Int32[B, K] in teacher order, -1 padding at the end."""
        config, top = self.config, self._top[users]
        if config.interesting == "topk":
            return top[:, : config.ranked]
        positions = ops.sample_ranked(
            users,
            self._lengths[users],
            config.ranked,
            temperature=config.temperature,
            seed=self.seeds.key("rrd/ranked") >> 1,
            epoch=epoch,
        )
        return top.gather(1, positions.clamp(min=0)).masked_fill_(positions < 0, -1)

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over distinct users of the relaxed ranking loss."""
        entities = weighted_entities([step.batch.users], reduction=self.config.reduction)
        # Where their number is not known, the batch may bring a bound: a student that encodes users encodes no more.
        users, weights = (part[: step.batch.runs] for part in entities)
        # Slots without a user (weight 0) become rows of padding: nothing is gathered for them.
        empty = (weights == 0).unsqueeze(1)
        lists = [drawn[users].masked_fill_(empty, -1) for drawn in (self._ranked, self._unranked)]
        if isinstance(step.tables, PairTables):
            per_user = ops.relaxed_ranking(*(step.tables.scores(users, ids) for ids in lists))
        else:
            per_user = ops.relaxed_ranking_from_embeddings(
                step.tables.user_vectors(users),
                step.tables.items,
                *lists,
                validate=False,
                sparse_grad=step.tables.sparse,
            )
        loss = (per_user * weights).sum()
        return LossParts(kd=self.config.weight * loss, parts={"rrd": loss.detach()})


METHODS.add(RRD.name, RRD)
