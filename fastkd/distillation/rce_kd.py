"""RCE-KD: Rejuvenated Cross-Entropy distillation.

Zhu and Zhang, "Rejuvenating cross-entropy loss in knowledge distillation for recommender systems" (arXiv 2509.20989);
the formulas are those of the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, counted_rows
from fastkd.distillation.method import METHODS, LossParts, Step
from fastkd.distillation.refresh import Window, Windowed, block_lists, block_scores, teacher_ids, user_blocks
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

MOST_AHEAD = 50
"""Cap of c_r, in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class RCEKDConfig:
    """Options of RCE-KD; list sizes, tau and beta vary by data set in the published runs, these are citeulike's.

    ``weight``: lambda, for a sum over the rows of the batch beside a base loss summed over its rows (published runs go
    from 1 to 1e5). ``listed``: K, of the teacher's and of the student's best. ``drawn``: L items drawn from the
    student's best ``top``. ``temperature``: tau, divides the scores of both. ``sharpness``: T of the draw.
    ``beta``: how fast the weight of the drawn list falls with its overlap with the teacher's. ``draw``: ``"overlap"``,
    weights exp((c_r + 1) / T), or ``"rank_decay"``, exp(-r / T), the authors' option. ``update``: epochs between
    refreshes of lists and draws. ``reduction`` over rows.
    """

    weight: float = 500.0
    listed: int = 50
    drawn: int = 50
    top: int = 200
    temperature: float = 1.0
    sharpness: float = 10.0
    beta: float = 3.0
    draw: Literal["overlap", "rank_decay"] = "overlap"
    update: int = 1
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight, beta=self.beta)
        at_least(1, listed=self.listed, drawn=self.drawn, top=self.top, update=self.update)
        positive(temperature=self.temperature, sharpness=self.sharpness)
        one_of("draw", self.draw, ("overlap", "rank_decay"))
        one_of("reduction", self.reduction, ("sum", "mean"))
        for name, value in (("listed", self.listed), ("drawn", self.drawn)):
            if value > self.top:
                raise ConfigError(f"{name}={value} items cannot come from a list of top={self.top}")


def teachers_ahead(ranks: Tensor, top: int) -> Tensor:
    """Return c_r = min(50, #{i in Q_T : position of i in the student's list >= r}), Int64[B, top], r = 1..top.

    ``ranks``: Int64[B, K], positions of the teacher's items in the student's list from 1; 0 or above ``top``: not in.
    """
    found = torch.zeros(len(ranks), top + 2, dtype=torch.int64, device=ranks.device)
    found.scatter_add_(1, ranks.clamp(max=top + 1), torch.ones_like(ranks))
    return found[:, 1 : top + 1].flip(1).cumsum(1).flip(1).clamp(max=MOST_AHEAD)


class Lists(NamedTuple):
    """``best`` Int[b, K] the student's, ``mixed`` Int[b, L + K]: the draw, then the teacher's items in neither."""

    best: Tensor
    mixed: Tensor


class RCEKD(Windowed):
    """L = sum over rows of (1 - w_u) CE(Q_S) + w_u CE(A_u + (Q_T minus A_u minus Q_S)).

    CE(I) = -sum_I softmax_I(t / tau) log softmax_I(s / tau); Q_T, Q_S the best K items of the teacher (once) and of the
    student (each epoch), A_u drawn from the student's best ``top``, w_u = exp(-beta |Q_T and A_u| / K). Training
    positives stay in all lists, as in the authors' code. Everything but s is constant. The teacher scores the student's
    items, so a teacher of lists is refused.
    """

    name: ClassVar[str] = "rce_kd"
    paper: ClassVar[str] = "Zhu & Zhang, arXiv 2509.20989"
    config_type: ClassVar[type[RCEKDConfig]] = RCEKDConfig
    knowledge: ClassVar[str] = "scores of any item"
    config: RCEKDConfig

    @classmethod
    def cost(cls, config: RCEKDConfig, at: Shape) -> Cost:
        """Return the cost: a ranking by the teacher; each refresh one by the student; a loss over 2K + L items."""
        columns = 2 * config.listed + config.drawn
        lists = storing(at.users, columns, values=2)
        look_up = scoring(at.users, columns, at.teacher_dim, gradient=False)
        return Cost(
            prepare=ranking(at.users, at.items, at.teacher_dim) + storing(at.users, config.listed),
            refresh=ranking(at.users, at.items, at.dim) + look_up + lists,
            every=config.update,
            step=scoring(at.batch_users, columns, at.dim),
            memory=held(at.users, columns, values=2) + held(at.users, config.listed + 1),
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank the catalogue once with the teacher and keep its vectors, which score what the student ranks."""
        same_shape(teacher, student, train)
        config, self._device = self.config, device_of(student)
        tables = teacher.tables()
        self._teacher = Tables(tables.users.to(self._device), tables.items.to(self._device))
        self._wanted = teacher_ids(self, teacher, config.listed, None, self._device)
        users = train.num_users
        shapes = {"best": (users, config.listed), "mixed": (users, config.drawn + config.listed)}
        self._window = Window(self.name, config.update, shapes, self._device)

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Rank the catalogue with the student and draw, when the window is over."""
        if not self._window.due(epoch):
            return
        tables, held_lists = student.frozen_tables(), self._window.open(epoch)
        for users in user_blocks(self, len(self._wanted), "ranking by the student", width=4 * self.config.top):
            at = users.to(self._device)
            lists = self._lists(at, block_lists(tables, users, self.config.top, None), epoch)
            for name, ids in lists._asdict().items():
                held_lists[name][at] = ids.to(torch.int32)
        self._read()

    def _lists(self, users: Tensor, student: Tensor, epoch: int) -> Lists:
        """Return the lists of a block of users from the student's best ``top``."""
        config, wanted = self.config, self._wanted[users].to(torch.int64)
        best = student[:, : config.listed]
        drawn = self._draw(users, student, ops.ranks_within(wanted, student), epoch)
        # A rank past the end says that the item is not there.
        known = (ops.ranks_within(wanted, drawn) <= config.drawn) | (ops.ranks_within(wanted, best) <= config.listed)
        return Lists(best, torch.cat([drawn, wanted.masked_fill(known, -1)], dim=1))

    def _draw(self, users: Tensor, student: Tensor, ranks: Tensor, epoch: int) -> Tensor:
        """Return A_u, Int64[b, L] in the student's order, -1 padding at the end."""
        config = self.config
        if config.draw == "overlap":
            log_weights = (teachers_ahead(ranks, config.top) + 1).double() / config.sharpness
        else:
            log_weights = -torch.arange(1, config.top + 1, device=student.device).double() / config.sharpness
        log_weights = log_weights.expand(student.shape).masked_fill(student < 0, -torch.inf)
        seed = self.seeds.key("rce_kd/drawn") >> 1
        positions = ops.sample_weighted(users, log_weights, config.drawn, seed=seed, epoch=epoch)
        return student.gather(1, positions.clamp(min=0)).masked_fill(positions < 0, -1)

    def _read(self) -> None:
        """Take over the window's lists: the teacher's scores of them, and the weight of each user's draw."""
        config = self.config
        self._best, self._mixed = self._window["best"], self._window["mixed"]
        self._best_scores = torch.empty(self._best.shape, device=self._device)
        self._mixed_scores = torch.empty(self._mixed.shape, device=self._device)
        self._share = torch.empty(len(self._best), device=self._device)
        width = 2 * config.listed + config.drawn
        for users in user_blocks(self, len(self._best), "scoring by the teacher", width=width):
            at = users.to(self._device)
            self._best_scores[at] = block_scores(self._teacher, users, self._best[at])
            self._mixed_scores[at] = block_scores(self._teacher, users, self._mixed[at])
            drawn = self._mixed[at, : config.drawn].contiguous()
            ranks = ops.ranks_within(self._wanted[at], drawn)
            common = ((ranks >= 1) & (ranks <= config.drawn)).sum(1)
            self._share[at] = torch.exp(-config.beta * common / config.listed)

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over rows of both cross entropies, weighted by w_u."""
        users, rows = counted_rows(step.batch.users, reduction=self.config.reduction)
        vectors, share = step.tables.user_vectors(users), self._share[users]
        of_best = self._cross_entropy(step.tables, vectors, users, rows, self._best, self._best_scores)
        of_mixed = self._cross_entropy(step.tables, vectors, users, rows, self._mixed, self._mixed_scores)
        best, mixed = (of_best * (1 - share) * rows).sum(), (of_mixed * share * rows).sum()
        parts = {"rce_kd_best": best.detach(), "rce_kd_mixed": mixed.detach()}
        return LossParts(kd=self.config.weight * (best + mixed), parts=parts)

    def _cross_entropy(
        self, tables: Tables, vectors: Tensor, users: Tensor, rows: Tensor, ids: Tensor, scores: Tensor
    ) -> Tensor:
        # Slots without a user (weight 0) become rows of padding: nothing is gathered for them.
        return ops.listnet_from_embeddings(
            vectors,
            tables.items,
            ids[users].masked_fill_((rows == 0).unsqueeze(1), -1),
            scores[users],
            temperature=self.config.temperature,
            validate=False,
            sparse_grad=tables.sparse,
        )


METHODS.add(RCEKD.name, RCEKD)
