"""IR-RRD: relaxed ranking distillation for users over items and for items over users.

Kang et al., "Item-side ranking regularized distillation for recommender system" (Information Sciences 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.core.philox import philox4x32
from fastkd.core.seeds import Seeds
from fastkd.distillation._sides import BLOCK, flipped, listed, reduced, stretches
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, distinct, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, weighted_entities
from fastkd.distillation.method import METHODS, LossParts, Method, Step
from fastkd.distillation.refresh import teacher_ids
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher
from fastkd.sampling import NegativeSampler

Interesting = Literal["rank_decay", "topk"]
_TURN = 0x9E3779B9


@dataclass(frozen=True, kw_only=True)
class IRRRDConfig:
    """Options of IR-RRD; the defaults are the published ones.

    ``weight``, ``ranked``, ``unranked``, ``top``, ``temperature``, ``interesting``: of the user side, as in RRD.
    ``item_weight`` (lambda_I), ``item_ranked``, ``item_unranked``, ``item_top``, ``item_temperature``: the same of the
    item side, where lists hold users. ``items_per_step``: items whose lists count in a step, drawn evenly from those
    that the batch's users are given and scaled up to all of them; None takes all. ``reduction`` is over distinct users
    and over distinct items.
    """

    weight: float = 1e-3
    ranked: int = 40
    unranked: int = 40
    top: int = 500
    temperature: float = 10.0
    item_weight: float = 5e-4
    item_ranked: int = 20
    item_unranked: int = 20
    item_top: int = 500
    item_temperature: float = 10.0
    items_per_step: int | None = None
    interesting: Interesting = "rank_decay"
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight, item_weight=self.item_weight)
        at_least(1, ranked=self.ranked, top=self.top, item_ranked=self.item_ranked, item_top=self.item_top)
        at_least(0, unranked=self.unranked, item_unranked=self.item_unranked)
        positive(temperature=self.temperature, item_temperature=self.item_temperature)
        one_of("interesting", self.interesting, ("rank_decay", "topk"))
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.items_per_step is not None:
            at_least(1, items_per_step=self.items_per_step)
        if self.ranked > self.top:
            raise ConfigError(f"ranked={self.ranked} items cannot come from a list of top={self.top}")
        if self.item_ranked > self.item_top:
            raise ConfigError(
                f"item_ranked={self.item_ranked} users cannot come from a list of item_top={self.item_top}"
            )


class Side:
    """The lists of one side: ``top`` Int32[R, M] is the teacher's; each epoch has a draw from it and one from the rest.

    ``stream`` names the random streams. ``seen``: interactions, rows on this side.
    """

    def __init__(
        self, top: Tensor, seen: Interactions, counts: tuple[int, int], temperature: float, seeds: Seeds, stream: str
    ) -> None:
        self.top, self.counts, self.temperature = top, counts, temperature
        self.lengths = (top >= 0).sum(1)
        self._key = seeds.key(f"{stream}/ranked") >> 1
        self._sampler = NegativeSampler(seen, seed=seeds.key(f"{stream}/unranked") >> 1)

    def draw(self, epoch: int, interesting: Interesting) -> tuple[Tensor, Tensor]:
        """Return Int32[R, K] in the teacher's order and Int32[R, L], padded with -1 where there is too little."""
        rows, (ranked, unranked) = len(self.top), self.counts
        best = torch.full((rows, ranked), -1, dtype=torch.int32)
        rest = torch.full((rows, unranked), -1, dtype=torch.int32)
        for block in stretches(rows, BLOCK):
            ids, at = torch.arange(block.start, block.stop), slice(block.start, block.stop)
            chosen = self._interesting(ids, epoch, interesting)
            best[at, : chosen.shape[1]] = chosen
            rest[at] = self._sampler.sample(
                ids, unranked, epoch=epoch, exclude_lists=self.top[at], replacement=False, on_exhausted="pad"
            ).to(torch.int32)
        return best, rest

    def _interesting(self, rows: Tensor, epoch: int, interesting: Interesting) -> Tensor:
        top, ranked = self.top[rows], self.counts[0]
        if interesting == "topk":
            return top[:, :ranked]
        positions = ops.sample_ranked(
            rows, self.lengths[rows], ranked, temperature=self.temperature, seed=self._key, epoch=epoch
        )
        return top.gather(1, positions.clamp(min=0)).masked_fill_(positions < 0, -1)


class IRRRD(Method):
    """RRD for the batch's users over items, and for the items in their lists over users.

    ``kd = weight * sum_u L(u) + item_weight * sum_i L(i)`` with L the relaxed Plackett-Luce loss; i runs over the
    distinct items that are interesting or uninteresting to a user of the batch. Lists hold no training pairs, on
    either side: the paper treats both sides alike, and its file of item lists is not published. Both sides are drawn
    anew each epoch; the user side draws what RRD draws.
    """

    name: ClassVar[str] = "ir_rrd"
    paper: ClassVar[str] = "Kang et al., Information Sciences'21"
    config_type: ClassVar[type[IRRRDConfig]] = IRRRDConfig
    knowledge: ClassVar[str] = "vectors"
    config: IRRRDConfig

    @classmethod
    def cost(cls, config: IRRRDConfig, at: Shape) -> Cost:
        """Return the cost: the teacher ranks both ways; the item side has a list for each item of the user side's."""
        drawn, item_drawn = config.ranked + config.unranked, config.item_ranked + config.item_unranked
        lists = ranking(at.users, at.items, at.teacher_dim) + storing(at.users, config.top)
        draws, step = storing(at.users, drawn), scoring(at.batch_users, drawn, at.dim)
        memory = held(at.users, config.top + drawn)
        if config.item_weight > 0:
            items = distinct(at.batch_users * drawn, at.items)
            items = min(items, config.items_per_step or items)
            lists = lists + ranking(at.items, at.users, at.teacher_dim) + storing(at.items, config.item_top)
            draws, step = draws + storing(at.items, item_drawn), step + scoring(items, item_drawn, at.dim)
            memory += held(at.items, config.item_top + item_drawn)
        return Cost(prepare=lists, refresh=draws, step=step, memory=memory)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank items for users and, unless ``item_weight`` is 0, users for items, once; that needs vectors."""
        config, seeds = self.config, self.seeds
        same_shape(teacher, student, train)
        host, self._device = torch.device("cpu"), device_of(student)
        top = teacher_ids(self, teacher, config.top, train, host)
        self._users = Side(top, train, (config.ranked, config.unranked), config.temperature, seeds, "rrd")
        if config.item_weight == 0:
            return
        seen = train.transpose()
        top = teacher_ids(self, flipped(teacher), config.item_top, seen, host, what="ranking users for items")
        counts = (config.item_ranked, config.item_unranked)
        self._items = Side(top, seen, counts, config.item_temperature, seeds, "ir_rrd/items")

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw the lists of both sides: a pure function of (seeds, epoch, row, slot)."""
        how, device = self.config.interesting, self._device
        self._ranked, self._unranked = (x.to(device) for x in self._users.draw(epoch, how))
        if self.config.item_weight == 0:
            return
        self._item_ranked, self._item_unranked = (x.to(device) for x in self._items.draw(epoch, how))
        if self.config.items_per_step is not None:
            ids = np.arange(len(self._item_ranked))
            word = philox4x32((ids, ids >> 32, 0, 0), self.seeds.key("ir_rrd/order", epoch))[0]
            self._order = torch.from_numpy(word.astype(np.int64)).to(device)

    def loss(self, step: Step) -> LossParts:
        """Return both weighted terms."""
        config, tables = self.config, step.tables
        users, weights = weighted_entities([step.batch.users])
        empty = (weights == 0).unsqueeze(1)
        ranked = self._ranked[users].masked_fill_(empty, -1)
        unranked = self._unranked[users].masked_fill_(empty, -1)
        per_user = ops.relaxed_ranking_from_embeddings(
            tables.user_vectors(users), tables.items, ranked, unranked, validate=False, sparse_grad=tables.sparse
        )
        by_users = reduced(per_user, weights, config.reduction)
        if config.item_weight == 0:
            return LossParts(kd=config.weight * by_users, parts={"ir_rrd_users": by_users.detach()})
        items, item_weights = self._items_of(listed([ranked.long(), unranked.long()]), step.step)
        rows, none = items.clamp(min=0), (items < 0).unsqueeze(1)
        per_item = ops.relaxed_ranking_from_embeddings(
            tables.item_vectors(rows),
            tables.users,
            self._item_ranked[rows].masked_fill_(none, -1),
            self._item_unranked[rows].masked_fill_(none, -1),
            validate=False,
            sparse_grad=tables.sparse,
        )
        by_items = reduced(per_item, item_weights, config.reduction)
        return LossParts(
            kd=config.weight * by_users + config.item_weight * by_items,
            parts={"ir_rrd_users": by_users.detach(), "ir_rrd_items": by_items.detach()},
        )

    def _items_of(self, entities: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """Return the items whose lists count in this step, with their weights."""
        items, weights = entities
        wanted = self.config.items_per_step
        if wanted is None or len(items) <= wanted:
            return items, weights
        # The epoch's random order, turned a little further each step: every item of a step is equally likely.
        turned = (self._order[items.clamp(min=0)] + step * _TURN) & 0xFFFFFFFF
        first = turned.masked_fill(items < 0, 1 << 33).topk(wanted, largest=False).indices.sort().values
        items, kept = items[first], weights[first]
        if self.config.reduction == "mean":
            return items, kept
        return items, kept * (weights.sum() / kept.sum().clamp(min=1))


METHODS.add(IRRRD.name, IRRRD)
