"""KD-CE: cross entropy between the teacher's and the student's softmax over a list.

ListNet's top-one loss (Cao et al., ICML'07) with soft labels: the plain baseline that RCE-KD and others improve on. No
paper of its own.
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
from fastkd.distillation.cost import Cost, Shape, Work, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, counted_rows
from fastkd.distillation.method import METHODS, LossParts, Step
from fastkd.distillation.refresh import Window, Windowed, block_lists, block_scores, teacher_lists, user_blocks
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

GUIDES = ("teacher", "student", "catalogue")


@dataclass(frozen=True, kw_only=True)
class KDCEConfig:
    """Options of KD-CE.

    ``weight``: lambda, for a sum over the rows of the batch beside a base loss summed over its rows. ``listed``: K
    items per user. ``temperature``: divides the scores of both; there is no factor T^2. ``guide``: whose best K are the
    list: ``"teacher"`` (made once), ``"student"`` (made anew every ``update`` epochs), or ``"catalogue"``: all items.
    ``exclude_seen``: leave the user's training positives out of the list; the published baseline keeps them in.
    ``reduction`` over rows.
    """

    weight: float = 1.0
    listed: int = 100
    temperature: float = 1.0
    guide: Literal["teacher", "student", "catalogue"] = "teacher"
    exclude_seen: bool = False
    update: int = 1
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        at_least(1, listed=self.listed, update=self.update)
        positive(temperature=self.temperature)
        one_of("guide", self.guide, GUIDES)
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.guide == "catalogue" and self.exclude_seen:
            raise ConfigError("guide=catalogue has no list to leave items out of; use exclude_seen=False")


class KDCE(Windowed):
    """L = sum over rows of -sum_{i in C_u} softmax(t_u / T)_i log softmax(s_u / T)_i, both over the list C_u.

    Teacher and its scores are constants. With the student's list a teacher of lists is refused: it has no scores there.
    Rows of one user have one loss, so it is computed once and weighted by their number.
    """

    name: ClassVar[str] = "kd_ce"
    paper: ClassVar[str] = "after Cao et al., ICML'07"
    config_type: ClassVar[type[KDCEConfig]] = KDCEConfig
    knowledge: ClassVar[str] = "ranked lists with scores"
    config: KDCEConfig

    @classmethod
    def cost(cls, config: KDCEConfig, at: Shape) -> Cost:
        """Return the cost: one ranking (by the student: every ``update`` epochs); a loss over K items, or over all."""
        lists = storing(at.users, config.listed, values=2)
        step = scoring(at.batch_users, config.listed, at.dim)
        memory = held(at.users, config.listed, values=2)
        if config.guide == "teacher":
            return Cost(prepare=ranking(at.users, at.items, at.teacher_dim) + lists, step=step, every=0, memory=memory)
        if config.guide == "student":
            look_up = scoring(at.users, config.listed, at.teacher_dim, gradient=False)
            made = ranking(at.users, at.items, at.dim) + look_up + lists
            return Cost(refresh=made, every=config.update, step=step, memory=memory)
        # Scores of both forward; both again backward, with the student's two gradients.
        pairs = at.batch_users * at.items
        flops = pairs * (6.0 * at.dim + 4.0 * at.teacher_dim)
        return Cost(step=Work(flops, held(at.items, 3 * at.dim + 2 * at.teacher_dim)), every=0)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank the catalogue once with the teacher, or keep its vectors to score what the student ranks."""
        same_shape(teacher, student, train)
        config, self._device = self.config, device_of(student)
        self._seen = train if config.exclude_seen else None
        shapes = {"ids": (train.num_users, config.listed)} if config.guide == "student" else {}
        self._window = Window(self.name, config.update, shapes, self._device)
        if config.guide == "teacher":
            self._ids, self._scores = teacher_lists(self, teacher, config.listed, self._seen, self._device)
            return
        tables = teacher.tables()
        self._teacher = Tables(tables.users.to(self._device), tables.items.to(self._device))

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Rank the catalogue with the student when its window is over, and look up the teacher's scores."""
        if self.config.guide != "student" or not self._window.due(epoch):
            return
        tables = student.frozen_tables()
        ids = self._window.open(epoch)["ids"]
        for users in user_blocks(self, len(ids), "ranking by the student", width=self.config.listed):
            ids[users] = block_lists(tables, users, self.config.listed, self._seen).to(torch.int32)
        self._read()

    def _read(self) -> None:
        """Take over the window's lists and score them."""
        self._ids = self._window["ids"]
        self._scores = torch.empty(self._ids.shape, device=self._device)
        for users in user_blocks(self, len(self._ids), "scoring by the teacher", width=self.config.listed):
            self._scores[users] = block_scores(self._teacher, users, self._ids[users])

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over rows of the cross entropy."""
        users, weights = counted_rows(step.batch.users, reduction=self.config.reduction)
        if self.config.guide == "catalogue":
            per_user = self._catalogue(step.tables, users)
        else:
            # Slots without a user (weight 0) become rows of padding: nothing is gathered for them.
            empty = (weights == 0).unsqueeze(1)
            per_user = ops.listnet_from_embeddings(
                step.tables.user_vectors(users),
                step.tables.items,
                self._ids[users].masked_fill_(empty, -1),
                self._scores[users],
                temperature=self.config.temperature,
                validate=False,
                sparse_grad=step.tables.sparse,
            )
        loss = (per_user * weights).sum()
        return LossParts(kd=self.config.weight * loss, parts={"kd_ce": loss.detach()})

    def _catalogue(self, student: Tables, users: Tensor) -> Tensor:
        if student.sparse:
            raise ConfigError(
                "kd_ce with guide=catalogue gives every item a gradient, so row-wise optimisers gain nothing: "
                "train with adam, adamw or sgd, or use guide=teacher"
            )
        return ops.catalogue_divergence(
            (student.user_vectors(users), student.items),
            (self._teacher.user_vectors(users), self._teacher.items),
            kind="cross_entropy",
            temperature=self.config.temperature,
            validate=False,
        )


METHODS.add(KDCE.name, KDCE)
