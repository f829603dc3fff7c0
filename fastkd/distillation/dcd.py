"""DCD: Dual Correction Distillation, the items on which the student's ranking is off.

Lee and Kim, "Dual correction strategy for ranking distillation in top-N recommender system" (CIKM'21).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation._sides import flipped, listed, reduced
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, Work, distinct, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, weighted_entities
from fastkd.distillation.method import METHODS, LossParts, Step
from fastkd.distillation.refresh import Window, Windowed, teacher_ids, teacher_lists, user_blocks
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

KINDS = ("under", "over")
"""What is drawn for a row: what the student under-estimates, and what it over-estimates."""

FLOOR = 1e-5
"""Least weight of a listed item, so that a user whose ranks all agree draws evenly."""
SATURATED = 20.0
"""Where tanh is 1 in float64 (from 19.07): a rank so many temperatures off weighs as much as any farther off."""
LONGEST = 4096
"""Longest list of the student's that takes the place of a count of ranks over the catalogue."""


@dataclass(frozen=True, kw_only=True)
class DCDConfig:
    """Options of DCD; the defaults are those of the published configurations.

    ``weight``: lambda, for a sum over distinct users beside a base loss summed over rows. ``ranked``: K items drawn of
    each kind. ``top``: M, the teacher list they come from. ``temperature``: T of ``tanh(max((r_S - r_T) / T, 0))``.
    ``order``: ``"teacher"`` sorts the under-estimated items by the teacher; ``"drawn"`` keeps the order of the draw, as
    the reference code does, which a loss over an ordered list should not see. ``student_ranks``: over the
    ``"unobserved"`` items, as the teacher's are, or over the whole ``"catalogue"``, as in the reference code, where a
    user's training items push all his ranks down. ``objective``: ``"cross_entropy"`` is the reference's ablation, the
    teacher's softmax over both lists as a set, with ``tau``; it needs scores. ``update``: epochs between refreshes.
    ``item_weight``: of the same loss for items over users (0: none); the paper names such a term, its weight is not
    known.
    """

    weight: float = 0.01
    ranked: int = 100
    top: int = 500
    temperature: float = 10.0
    order: Literal["teacher", "drawn"] = "teacher"
    student_ranks: Literal["unobserved", "catalogue"] = "unobserved"
    objective: Literal["relaxed", "cross_entropy"] = "relaxed"
    tau: float = 1.0
    update: int = 1
    item_weight: float = 0.0
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight, item_weight=self.item_weight)
        at_least(1, ranked=self.ranked, top=self.top, update=self.update)
        positive(temperature=self.temperature, tau=self.tau)
        one_of("order", self.order, ("teacher", "drawn"))
        one_of("student_ranks", self.student_ranks, ("unobserved", "catalogue"))
        one_of("objective", self.objective, ("relaxed", "cross_entropy"))
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.ranked > self.top:
            raise ConfigError(f"ranked={self.ranked} items cannot come from a list of top={self.top}")


def correction_weights(student_ranks: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return ``max(tanh(max(+-(r_S - r_T) / T, 0)), 1e-5)``, Float64[B, M] each: under- and over-estimated.

    ``student_ranks``: r_S, Int64[B, M] from 1, of the teacher's list in its order, so ``r_T = 1 .. M``; 0 is padding
    and has weight 0.
    """
    teacher_ranks = torch.arange(1, student_ranks.shape[1] + 1, device=student_ranks.device)
    gap = (student_ranks - teacher_ranks).double() / temperature
    padding = student_ranks <= 0
    under, over = (torch.tanh(x.clamp(min=0)).clamp(min=FLOOR).masked_fill(padding, 0) for x in (gap, -gap))
    return under, over


def reach(config: DCDConfig, count: int) -> int | None:
    """Return how far down a ranking of ``count`` the weights tell ranks apart; None if too far for a list.

    Within reach a list of the student's best shows the ranks, in a third of the time of counting over the catalogue.
    """
    needed = config.top + math.ceil(SATURATED * config.temperature)
    return needed if needed < min(count, LONGEST) else None


class DCD(Windowed):
    """Two draws per user from the teacher's list: what the student under-estimates, and what it over-estimates.

    ``L(u)``: the relaxed Plackett-Luce loss of the under-estimated items in the teacher's order, with all the
    over-estimated ones below them; an item may be in both. Only the reference code gives the weights; of the paper,
    words. Lists are refreshed from the student every ``update`` epochs and kept in the checkpoint.
    """

    name: ClassVar[str] = "dcd"
    paper: ClassVar[str] = "Lee and Kim, CIKM'21"
    config_type: ClassVar[type[DCDConfig]] = DCDConfig
    knowledge: ClassVar[str] = "ranked lists"
    config: DCDConfig

    @classmethod
    def cost(cls, config: DCDConfig, at: Shape) -> Cost:
        """Return the cost: the student's ranking at each refresh; 2 K items per distinct user."""
        drawn, sides = 2 * config.ranked, 1 if config.item_weight == 0 else 2
        width = reach(config, at.items)
        counted = Work(at.users * at.items * math.log2(config.top + 1)) if width is None else storing(at.users, width)
        items = distinct(at.batch_users * drawn, at.items) if sides == 2 else 0.0
        rows = at.users + (at.items if sides == 2 else 0)
        return Cost(
            prepare=ranking(at.users, at.items, at.teacher_dim) * sides + storing(rows, config.top),
            refresh=(ranking(at.users, at.items, at.dim) + counted) * sides + storing(rows, drawn),
            every=config.update,
            step=scoring(at.batch_users + items, drawn, at.dim),
            memory=held(rows, config.top + drawn, values=1 if config.objective == "relaxed" else 2),
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank the catalogue once with the teacher, and users for items where the item side has a weight."""
        same_shape(teacher, student, train)
        config = self.config
        self._top: dict[str, Tensor] = {}
        self._top_scores: dict[str, Tensor] = {}
        self._rank("user", teacher, train, "ranking by the teacher")
        self._seen = {"user": train}
        if config.item_weight > 0:
            self._seen["item"] = train.transpose()
            self._rank("item", flipped(teacher), self._seen["item"], "ranking users for items")
        shapes = {f"{side}/{kind}": (len(top), config.ranked) for side, top in self._top.items() for kind in KINDS}
        self._window = Window(self.name, config.update, shapes, device_of(student))

    def _rank(self, side: str, teacher: Teacher, seen: Interactions, what: str) -> None:
        """Keep the teacher's lists of one side, with scores where the objective reads them; on the CPU."""
        host, top = torch.device("cpu"), self.config.top
        if self.config.objective == "relaxed":
            self._top[side] = teacher_ids(self, teacher, top, seen, host, what=what)
        else:
            self._top[side], self._top_scores[side] = teacher_lists(self, teacher, top, seen, host)

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw both lists anew from the student's ranks, every ``update`` epochs."""
        if not self._window.due(epoch):
            return
        tables, lists = student.frozen_tables(), self._window.open(epoch)
        for side in self._top:
            self._refresh(side, tables if side == "user" else Tables(tables.items, tables.users), lists)
        self._read()

    def _read(self) -> None:
        """For the cross entropy: both lists as a set, Int32[rows, 2 K], with the teacher's scores."""
        self._sets: dict[str, tuple[Tensor, Tensor]] = {}
        for side, scores in self._top_scores.items():
            under, over = (self._window[f"{side}/{kind}"] for kind in KINDS)
            twice = ops.ranks_within(over.cpu(), under.cpu()) <= under.shape[1]
            ids = torch.cat([under.cpu(), over.cpu().masked_fill(twice, -1)], 1)
            places = ops.ranks_within(ids, self._top[side])
            values = scores.gather(1, (places - 1).clamp(0, scores.shape[1] - 1)).masked_fill(ids < 0, -torch.inf)
            self._sets[side] = ids.to(under.device), values.to(under.device)

    def _refresh(self, side: str, tables: Tables, lists: Mapping[str, Tensor]) -> None:
        """Fill ``<side>/under`` and ``<side>/over``, Int32[rows, K], in blocks of rows."""
        config, top = self.config, self._top[side]
        width = reach(config, len(tables.items))
        for rows in user_blocks(self, len(top), f"ranking {side}s' lists", width=width or config.top):
            at = slice(int(rows[0]), int(rows[-1]) + 1)
            ranks = self._student_ranks(side, tables, rows, top[at].to(tables.items.device), width)
            for kind, weights in zip(KINDS, correction_weights(ranks.cpu(), config.temperature), strict=True):
                positions = ops.sample_weighted(
                    rows,
                    weights.log(),
                    config.ranked,
                    order="drawn" if config.order == "drawn" else "list",
                    seed=self.seeds.key(f"dcd/{side}/{kind}") >> 1,
                    epoch=self._window.start,
                )
                drawn = top[at].gather(1, positions.clamp(min=0)).masked_fill(positions < 0, -1)
                lists[f"{side}/{kind}"][at] = drawn.to(lists[f"{side}/{kind}"].device)

    def _student_ranks(self, side: str, tables: Tables, rows: Tensor, listed: Tensor, width: int | None) -> Tensor:
        """Return the student's ranks Int64[b, M] of the ``listed`` items; past ``width`` all are the first behind."""
        users = tables.users[int(rows[0]) : int(rows[-1]) + 1]
        exclude = self._seen[side].rows(rows.numpy()) if self.config.student_ranks == "unobserved" else None
        if width is None:
            return ops.rank_of(users, tables.items, listed.long(), exclude=exclude, validate=False)
        return ops.ranks_within(listed, ops.rank_topk(users, tables.items, width, exclude=exclude).ids)

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over distinct users, and the same for the items of their lists."""
        config, tables = self.config, step.tables
        users, weights = weighted_entities([step.batch.users])
        empty = weights == 0
        per_user = self._side("user", users, empty, tables.user_vectors(users), tables.items, tables.sparse)
        by_users = reduced(per_user, weights, config.reduction)
        parts, kd = {"dcd": by_users.detach()}, config.weight * by_users
        if config.item_weight > 0:
            lists = [self._window[f"user/{kind}"][users].long() for kind in KINDS]
            items, item_weights = listed([x.masked_fill_(empty.unsqueeze(1), -1) for x in lists])
            rows = items.clamp(min=0)
            per_item = self._side("item", rows, items < 0, tables.item_vectors(rows), tables.users, tables.sparse)
            by_items = reduced(per_item, item_weights, config.reduction)
            parts["dcd_items"], kd = by_items.detach(), kd + config.item_weight * by_items
        return LossParts(kd=kd, parts=parts)

    def _side(self, side: str, rows: Tensor, empty: Tensor, vectors: Tensor, table: Tensor, sparse: bool) -> Tensor:
        if self.config.objective == "cross_entropy":
            ids, scores = (values[rows] for values in self._sets[side])
            ids = ids.masked_fill_(empty.unsqueeze(1), -1)
            return ops.listnet_from_embeddings(
                vectors, table, ids, scores, temperature=self.config.tau, validate=False, sparse_grad=sparse
            )
        under, over = (self._window[f"{side}/{kind}"][rows].masked_fill_(empty.unsqueeze(1), -1) for kind in KINDS)
        return ops.relaxed_ranking_from_embeddings(vectors, table, under, over, validate=False, sparse_grad=sparse)


METHODS.add(DCD.name, DCD)
