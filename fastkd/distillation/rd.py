"""RD: Ranking Distillation.

Tang and Wang, "Ranking distillation: learning compact ranking models with high performance for recommender system"
(KDD'18).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.interactions import Interactions
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, counted_rows
from fastkd.distillation.method import METHODS, LossParts, Step
from fastkd.distillation.refresh import Window, Windowed, teacher_ids, user_blocks
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class RDConfig:
    """Options of RD; the defaults are those of the authors' code, renormalised as in the paper.

    ``weight``: alpha, for a sum over the rows of the batch beside a base loss summed over its rows (the paper's text
    mixes (1 - alpha) base + alpha RD; its code adds). ``listed``: K. ``position_temperature``: lam of the position
    weight. ``mu``: sharpness of the discrepancy weight. ``samples``: n, items the student's rank is estimated from.
    ``start_epoch``: first epoch (from 0) with the discrepancy weight; before, positions alone count. ``ranks``:
    ``"sampled"``, estimated at each step, or ``"exact"``, the student's true ranks at the start of every ``update``-th
    epoch. ``renormalize``: weights sum to 1, as in the paper; the authors' code leaves it out. ``reduction`` over rows.
    """

    weight: float = 1.0
    listed: int = 10
    position_temperature: float = 1.0
    mu: float = 0.1
    samples: int = 100
    start_epoch: int = 10
    ranks: Literal["sampled", "exact"] = "sampled"
    update: int = 1
    renormalize: bool = True
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        positive(position_temperature=self.position_temperature, mu=self.mu)
        at_least(1, listed=self.listed, samples=self.samples, update=self.update)
        at_least(0, start_epoch=self.start_epoch)
        one_of("ranks", self.ranks, ("sampled", "exact"))
        one_of("reduction", self.reduction, ("sum", "mean"))


def position_weights(listed: Tensor, temperature: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return w^a_r = exp(-r / lam) / sum_j exp(-j / lam) over the listed places, Float[B, K]; r = 1..K.

    ``listed``: Bool[B, K], whether there is an item; a place without one has weight 0.
    """
    ranks = torch.arange(1, listed.shape[1] + 1, device=listed.device, dtype=dtype)
    logits = (-ranks / temperature).expand(listed.shape).masked_fill(~listed, -torch.inf)
    return torch.softmax(logits.masked_fill(~listed.any(1, keepdim=True), 0.0), dim=1) * listed


def hybrid_weights(position: Tensor, ranks: Tensor, mu: float, *, renormalize: bool) -> Tensor:
    """Return w^a_r w^b_r, divided by its sum if ``renormalize``; w^b_r = tanh(max(mu (rhat_r - r), 0)).

    ``position``: w^a, Float[B, K]. ``ranks``: rhat, the student's rank of the teacher's r-th item, Int64[B, K], from 1.
    A row whose weights are all 0 (the student already ranks everything well) keeps 0.
    """
    places = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    weights = position * torch.tanh(mu * (ranks - places).clamp(min=0).to(position.dtype))
    if not renormalize:
        return weights
    total = weights.sum(1, keepdim=True)
    return torch.where(total > 0, weights / total.where(total > 0, 1.0), 0.0)


class RD(Windowed):
    """L = -sum over rows of sum_r w_r log sigma(s_{pi_r}), pi the teacher's best K outside the training positives.

    rhat_r = floor((N - 1) #{d : s_d > s_{pi_r}} / n) + 1 from n items drawn uniformly, with replacement, from those the
    user has not touched; r and rhat both count from 1, as in the paper (its code counts both from 0, a later port mixes
    the two). The sample belongs to (epoch, user): rows of one user share it. On the CPU all are drawn when the epoch
    begins, since a user comes in many batches; on a device at the step, where a draw costs less than keeping it.
    Drawing for each row would need interactions x n ids; each row's sample has the same distribution, so the expected
    gradient is the same. Weights are constants.
    """

    name: ClassVar[str] = "rd"
    paper: ClassVar[str] = "Tang & Wang, KDD'18"
    config_type: ClassVar[type[RDConfig]] = RDConfig
    knowledge: ClassVar[str] = "ranked lists"
    config: RDConfig

    @classmethod
    def cost(cls, config: RDConfig, at: Shape) -> Cost:
        """Return the cost: one ranking by the teacher; a loss over K items, n more scored without a gradient."""
        step = scoring(at.batch_users, config.listed, at.dim)
        lists = ranking(at.users, at.items, at.teacher_dim) + storing(at.users, config.listed)
        memory = held(at.users, config.listed)
        if config.ranks == "sampled":
            step = step + scoring(at.batch_users, config.samples, at.dim, gradient=False)
            memory += held(at.users, config.samples)
            return Cost(prepare=lists, refresh=storing(at.users, config.samples), step=step, memory=memory)
        found = ranking(at.users, at.items, at.dim) + storing(at.users, config.listed)
        return Cost(prepare=lists, refresh=found, every=config.update, step=step, memory=2 * memory)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank the catalogue once with the teacher: K items per user, kept as int32."""
        same_shape(teacher, student, train)
        device = device_of(student)
        self._train = train
        self._ids = teacher_ids(self, teacher, self.config.listed, train, device)
        self._seed = self.seeds.key("rd/samples") >> 1
        shapes = {"ranks": tuple(self._ids.shape)} if self.config.ranks == "exact" else {}
        self._window = Window(self.name, self.config.update, shapes, device)
        self._drawn: tuple[int, Tensor] | None = None

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw the samples, on the CPU; with exact ranks, rank the teacher's items by the student if it is time."""
        config = self.config
        if epoch < config.start_epoch:
            return
        if config.ranks == "sampled":
            if self._ids.device.type == "cpu":
                self._drawn = epoch, self._draw_all(epoch)
            return
        if not self._window.due(epoch):
            return
        tables = student.frozen_tables()
        ranks = self._window.open(epoch)["ranks"]
        for users in user_blocks(self, len(ranks), "ranking by the student", width=self.config.listed):
            rows = slice(int(users[0]), int(users[-1]) + 1)
            seen = self._train.rows(users.numpy())
            ids = self._ids[rows]
            ranks[rows] = ops.rank_of(tables.users[rows], tables.items, ids, exclude=seen, validate=False).int()

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over rows of the weighted log-loss of the teacher's items."""
        users, counts = counted_rows(step.batch.users, reduction=self.config.reduction)
        # Slots without a user (weight 0) become rows of padding: nothing is gathered for them.
        ids = self._ids[users].masked_fill_((counts == 0).unsqueeze(1), -1)
        vectors = step.tables.user_vectors(users)
        scores = ops.gather_dot(vectors, step.tables.items, ids, validate=False, sparse_grad=step.tables.sparse)
        weights = position_weights(ids >= 0, self.config.position_temperature, scores.dtype)
        if step.epoch >= self.config.start_epoch:
            ranks = self._ranks(users, vectors.detach(), step.tables.detach(), scores.detach(), step.epoch)
            weights = hybrid_weights(weights, ranks, self.config.mu, renormalize=self.config.renormalize)
        per_user = ops.weighted_bce(scores, torch.ones_like(scores), weights=weights)
        loss = (per_user * counts).sum()
        return LossParts(kd=self.config.weight * loss, parts={"rd": loss.detach()})

    def _ranks(self, users: Tensor, vectors: Tensor, tables: Tables, scores: Tensor, epoch: int) -> Tensor:
        """Return the student's ranks Int64[B, K] of the teacher's items, from 1."""
        if self.config.ranks == "exact":
            return self._window["ranks"][users].to(torch.int64)
        n = self.config.samples
        drawn = self._drawn[1][users] if self._drawn and self._drawn[0] == epoch else self._draw(users, epoch)
        others = _ascending(ops.gather_dot(vectors, tables.items, drawn, validate=False))
        above = n - torch.searchsorted(others, scores, right=True)
        return (self._train.num_items - 1) * above // n + 1

    def _draw(self, users: Tensor, epoch: int) -> Tensor:
        """Return n untouched items for each of the ``users``, Int64[b, n]."""
        return ops.sample_unobserved(
            self._train, users, self.config.samples, seed=self._seed, epoch=epoch, validate=False
        )

    def _draw_all(self, epoch: int) -> Tensor:
        """Return those of all users, Int32[U, n]."""
        drawn = torch.empty(len(self._ids), self.config.samples, dtype=torch.int32)
        for users in user_blocks(self, len(drawn), "drawing", width=self.config.samples):
            drawn[users] = self._draw(users, epoch).to(torch.int32)
        return drawn


def _ascending(scores: Tensor) -> Tensor:
    """Return scores Float[B, n] with each row in ascending order.

    On the CPU by numpy, whose sort is vectorised: torch's took a third of a step.
    """
    if scores.device.type != "cpu" or scores.dtype not in (torch.float32, torch.float64):
        return scores.sort(dim=1).values
    return torch.from_numpy(np.sort(scores.numpy(), axis=1))


METHODS.add(RD.name, RD)
