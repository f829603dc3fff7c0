"""CD: Collaborative Distillation.

Lee et al., "Collaborative distillation for top-N recommendation" (ICDM'19).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation.checks import at_least, device_of, finite, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, Work, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, counted_rows
from fastkd.distillation.method import METHODS, LossParts, Step
from fastkd.distillation.refresh import Window, Windowed, block_scores, teacher_lists, user_blocks
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

ROUND = 64
"""Lengths of the student's lists are multiples of it."""
LEAST_BLOCK = 512
LENGTHS = 16
"""Users ranked by one call, at least, and calls that give each its own length: a call ranks hundreds at a time."""


@dataclass(frozen=True, kw_only=True)
class CDConfig:
    """Options of CD; the defaults are those of the published comparisons (citeulike, gowalla, yelp).

    ``weight``: lambda, for a sum over the rows of the batch beside a base loss summed over its rows. ``guide``: whose
    ranking of the untouched items is drawn from: ``"teacher"`` (CD-TG), ``"student"`` (CD-SG, ranked anew every
    ``update`` epochs; the paper ranks at every step), ``"base"`` (CD-Base: uniform over all of them, no ranking).
    ``drawn``: n items per user and epoch, with replacement. ``top``: M, the head of the ranking they come from; None
    ranks every untouched item, the paper's formula. ``law``: ``"linear"`` p_r ~ 1 - (r - 1/2) / M, ``"exponential"``
    p_r ~ exp(-gamma r / M), ``"uniform"``. ``temperature``, ``shift``: T1 and T2 of the teacher's
    q = sigma((t + T2) / T1); the paper has 1 and 1. ``reduction`` over rows.
    """

    weight: float = 0.5
    guide: Literal["base", "teacher", "student"] = "student"
    drawn: int = 2
    top: int | None = 3000
    law: Literal["linear", "exponential", "uniform"] = "linear"
    gamma: float = 1.0
    temperature: float = 2.0
    shift: float = 0.0
    update: int = 1
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        one_of("guide", self.guide, ("base", "teacher", "student"))
        at_least(1, drawn=self.drawn, update=self.update)
        if self.top is not None:
            at_least(1, top=self.top)
        one_of("law", self.law, ("linear", "exponential", "uniform"))
        positive(gamma=self.gamma, temperature=self.temperature)
        finite(shift=self.shift)
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.update != 1 and self.guide != "student":
            raise ConfigError(f"update={self.update} is for guide=student; guide={self.guide} ranks once or never")


class CD(Windowed):
    """L = sum over rows and drawn items of BCEWithLogits(s_ui, sigma((t_ui + T2) / T1)).

    Items are drawn with replacement, n per (epoch, user), from the guide's best M outside the training positives; rows
    of one user share them, so their loss is computed once. Known code that takes the better of two draws from a nearly
    flat law draws by the linear law, which is the default here. It also removes duplicates from a set of tensors, which
    removes none; nor do we. The paper's base loss has positives only; here the trainer's base loss stands beside it.
    The student's draws for ``update`` epochs are made once and kept (with ``update`` 1 each epoch has its own).
    """

    name: ClassVar[str] = "cd"
    paper: ClassVar[str] = "Lee et al., ICDM'19"
    config_type: ClassVar[type[CDConfig]] = CDConfig
    knowledge: ClassVar[str] = "scores (guide teacher: ranked lists)"
    config: CDConfig

    @classmethod
    def cost(cls, config: CDConfig, at: Shape) -> Cost:
        """Return the cost: the guide's rankings; n scores of the teacher per user; a loss over n items."""
        top = at.items if config.top is None else min(config.top, at.items)
        drawn = storing(at.users, config.drawn, values=2)
        look_up = scoring(at.users, config.drawn, at.teacher_dim, gradient=False)
        ranked, made, lists = Work(), drawn, 0.0
        if config.guide == "teacher":
            lists = held(at.users, top, values=2)
            ranked = ranking(at.users, at.items, at.teacher_dim) + storing(at.users, top, values=2)
        elif config.guide == "student":
            made = ranking(at.users, at.items, at.dim) + look_up + drawn
        else:
            made = look_up + drawn
        return Cost(
            prepare=ranked,
            refresh=made,
            every=config.update,
            step=scoring(at.batch_users, config.drawn, at.dim),
            memory=lists + held(at.users, config.drawn, values=2),
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank once with the teacher where it guides; else keep its vectors to score what is drawn."""
        same_shape(teacher, student, train)
        config, self._device, self._train = self.config, device_of(student), train
        self._top = train.num_items if config.top is None else min(config.top, train.num_items)
        shapes = {"ids": (train.num_users, config.drawn)} if config.guide == "student" else {}
        self._window = Window(self.name, config.update, shapes, self._device)
        if config.guide == "teacher":
            # On the CPU: lists of this length are drawn from once an epoch and would crowd a device.
            self._lists, self._list_scores = teacher_lists(self, teacher, self._top, train, torch.device("cpu"))
            return
        tables = teacher.tables()
        self._teacher = Tables(tables.users.to(self._device), tables.items.to(self._device))

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw n items for every user and look up the teacher's scores of them."""
        if self.config.guide == "student" and not self._window.due(epoch):
            return
        ids = torch.full((self._train.num_users, self.config.drawn), -1, dtype=torch.int32, device=self._device)
        if self.config.guide == "student":
            ids = self._window.open(epoch)["ids"]
        if self.config.guide == "teacher":
            self._draw_from_lists(ids, epoch)
            return
        if self.config.guide == "student":
            self._draw_from_student(ids, student.frozen_tables(), epoch)
        else:
            self._draw_evenly(ids, epoch)
        self._ids = ids
        self._score()

    def _draw_evenly(self, ids: Tensor, epoch: int) -> None:
        """Fill ``ids`` with untouched items."""
        seed = self.seeds.key("cd/base") >> 1
        for users in user_blocks(self, len(ids), "drawing", width=self.config.drawn):
            at = users.to(self._device)
            drawn = ops.sample_unobserved(self._train, at, self.config.drawn, seed=seed, epoch=epoch)
            ids[at] = drawn.to(torch.int32)

    def _draw_from_student(self, ids: Tensor, tables: Tables, epoch: int) -> None:
        """Fill ``ids`` with the items at the ranks drawn, which do not depend on the student.

        A ranking costs by its length, so the ranks are drawn first and users ranked in the order of their largest:
        no list is much longer than its user needs. Lengths are rounded, for few different ones.
        """
        count = len(ids)
        lengths = torch.from_numpy(self._train.num_items - self._train.degrees()).clamp(max=self._top)
        ranks = torch.empty(count, self.config.drawn, dtype=torch.int32)
        for users in user_blocks(self, count, "drawing", width=self.config.drawn):
            ranks[users] = self._positions(users, lengths[users], epoch).to(torch.int32)
        needed = (-(-(ranks.max(dim=1).values.long() + 1) // ROUND) * ROUND).clamp(max=self._top)
        order, most = torch.argsort(needed, stable=True), max(LEAST_BLOCK, -(-count // LENGTHS))
        for block in user_blocks(self, count, "ranking by the student", width=self._top, most=most):
            users = order[block]
            at, width = users.to(self._device), int(needed[users[-1]])
            positions = ranks[users].to(self._device).long()
            best = ops.rank_topk(tables.users[at], tables.items, width, exclude=self._train.rows(users.numpy())).ids
            none = positions < 0
            if width > 0:
                ids[at] = best.gather(1, positions.clamp(min=0)).masked_fill(none, -1).to(torch.int32)

    def _positions(self, users: Tensor, lengths: Tensor, epoch: int) -> Tensor:
        """Return ranks Int64[b, n] from 0, -1 for an empty list."""
        return ops.sample_positions(
            users,
            lengths,
            self.config.drawn,
            law=self.config.law,
            decay=self.config.gamma,
            seed=self.seeds.key("cd/ranked") >> 1,
            epoch=epoch,
        )

    def _draw_from_lists(self, ids: Tensor, epoch: int) -> None:
        """Fill ``ids`` and take the scores from the teacher's lists, which need no vectors."""
        scores = torch.full(ids.shape, -torch.inf, device=self._device)
        for users in user_blocks(self, len(ids), "drawing", width=self.config.drawn):
            rows = slice(int(users[0]), int(users[-1]) + 1)
            lists, positions = self._lists[rows], self._positions(users, (self._lists[rows] >= 0).sum(1), epoch)
            at, none = positions.clamp(min=0), positions < 0
            ids[rows] = lists.gather(1, at).masked_fill(none, -1).to(self._device)
            scores[rows] = self._list_scores[rows].gather(1, at).masked_fill(none, -torch.inf).to(self._device)
        self._ids, self._scores = ids, scores

    def _score(self) -> None:
        """Look up the teacher's scores of the drawn items."""
        self._scores = torch.empty(self._ids.shape, device=self._device)
        for users in user_blocks(self, len(self._ids), "scoring by the teacher", width=self.config.drawn):
            self._scores[users] = block_scores(self._teacher, users, self._ids[users])

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over rows of the soft binary cross entropy."""
        users, weights = counted_rows(step.batch.users, reduction=self.config.reduction)
        # Slots without a user (weight 0) become rows of padding: nothing is gathered for them.
        empty = (weights == 0).unsqueeze(1)
        per_user = ops.soft_bce_from_embeddings(
            step.tables.user_vectors(users),
            step.tables.items,
            self._ids[users].masked_fill_(empty, -1),
            self._scores[users],
            temperature=self.config.temperature,
            shift=self.config.shift,
            validate=False,
            sparse_grad=step.tables.sparse,
        )
        loss = (per_user * weights).sum()
        return LossParts(kd=self.config.weight * loss, parts={"cd": loss.detach()})

    def _read(self) -> None:
        """Score restored draws again."""
        self._ids = self._window["ids"]
        self._score()


METHODS.add(CD.name, CD)
