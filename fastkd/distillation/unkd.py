"""UnKD: unbiased distillation, pairs of items of like popularity.

Chen et al., "Unbiased knowledge distillation for recommendation" (WSDM'23).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation._draws import MIN_PAIR_TEMPERATURE, draw_pairs
from fastkd.distillation._sides import BLOCK, stretches
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, Step
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class UnKDConfig:
    """Options of UnKD; the defaults are the published ones.

    ``weight``: lambda; the authors take means of both losses over the batch's rows, which is the same as sums of both,
    so it fits either. ``groups``: G, about equal in popularity. ``pairs``: drawn per user, over all groups. ``top``:
    length of the teacher's list within a group. ``temperature``: of the positions, ``exp(-r / temperature)``.
    ``tilt``: lambda of the groups' shares ``a_g ** tilt``; 0 gives all the same. ``reduction``: over rows; a row's loss
    is the mean over its pairs.
    """

    weight: float = 1.0
    groups: int = 4
    pairs: int = 30
    top: int = 1000
    temperature: float = 20.0
    tilt: float = 0.0
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        at_least(1, groups=self.groups, pairs=self.pairs)
        at_least(2, top=self.top)
        positive(temperature=self.temperature)
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.temperature < MIN_PAIR_TEMPERATURE:
            raise ConfigError(
                f"temperature must be at least {MIN_PAIR_TEMPERATURE}, got {self.temperature}: "
                "both items of a pair would nearly always be the first of the list"
            )
        if not np.isfinite(self.tilt):
            raise ConfigError(f"tilt must be a finite number, got {self.tilt}")


def popularity_groups(counts: NDArray[np.int64], groups: int) -> list[NDArray[np.int64]]:
    """Return the items of each group, ascending, most popular group first.

    Items by falling popularity (then lower id) fill a group until the next one would take its sum above
    ``quota = total / groups``; one item above the quota is a group of its own. What is left at the end is a group if
    its sum is above half the quota, else it joins the one before. So there may be one group more or fewer than asked
    for. ``counts``: users of each item, Int64[N].
    """
    order = np.argsort(-counts, kind="stable")
    sums = np.concatenate([[0], np.cumsum(counts[order])])
    quota, start, cuts = sums[-1] / groups, 0, [0]
    while start < len(order):
        # The first end at which the group holds more than the quota.
        end = int(np.searchsorted(sums, sums[start] + quota, side="right"))
        if end > len(order):
            break
        start = end if end == start + 1 else end - 1
        cuts.append(start)
    if start < len(order):
        if sums[-1] - sums[start] > quota / 2 or len(cuts) == 1:
            cuts.append(len(order))
        else:
            cuts[-1] = len(order)
    return [np.sort(order[a:b]) for a, b in itertools.pairwise(cuts)]


def group_pairs(counts: NDArray[np.int64], groups: list[NDArray[np.int64]], pairs: int, tilt: float) -> list[int]:
    """Return n_g, the pairs drawn from each group: ``round(pairs * a_g ** tilt / sum)``.

    ``a_g = max(0.1, round(v_g / sum(v), 2))`` with ``v_g = max + min - mean popularity of g``. What rounding leaves out
    goes to the first groups, one each.
    """
    means = np.array([counts[g].mean() for g in groups])
    inverted = means.max() + means.min() - means
    total = inverted.sum()
    inverted = inverted / total if total > 0 else np.full(len(groups), 1 / len(groups))
    shares = np.maximum(0.1, np.round(inverted, 2)) ** tilt
    drawn = np.round(pairs * shares / shares.sum()).astype(np.int64)
    missing = max(0, pairs - int(drawn.sum()))
    drawn += missing // len(groups)
    drawn[: missing % len(groups)] += 1
    return [int(n) for n in drawn]


class UnKD(Method):
    """Pairs within popularity groups: the student learns the teacher's order, not its taste for popular items.

    ``L(row) = mean over the pairs of -log sigma(s_better - s_worse)``; better and worse are two positions of the
    teacher's list within one group, outside the user's training items, drawn each epoch. A user with fewer than two
    items in a group has no pairs from it. The paper's user share of a group is computed and never used; it is not
    here.
    """

    name: ClassVar[str] = "unkd"
    paper: ClassVar[str] = "Chen et al., WSDM'23"
    config_type: ClassVar[type[UnKDConfig]] = UnKDConfig
    knowledge: ClassVar[str] = "ranked lists"
    config: UnKDConfig

    @classmethod
    def cost(cls, config: UnKDConfig, at: Shape) -> Cost:
        """Return the cost: one ranking of each group; two items a pair for every row of the batch."""
        lists = config.groups * min(config.top, max(1, at.items // config.groups))
        return Cost(
            prepare=ranking(at.users, at.items, at.teacher_dim) + storing(at.users, lists),
            refresh=storing(at.users, 2 * config.pairs),
            step=scoring(at.batch, 2 * config.pairs, at.dim),
            memory=held(at.users, lists + 2 * config.pairs),
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank each popularity group once with the teacher, Int32[U, top] a group, in blocks of users."""
        same_shape(teacher, student, train)
        config, counts = self.config, train.item_counts()
        groups, teacher = popularity_groups(counts, config.groups), teacher.at_hand()
        self._drawn = group_pairs(counts, groups, config.pairs, config.tilt)
        self._lists: list[Tensor] = []
        for at, group in enumerate(groups):
            width = min(config.top, len(group))
            lists = torch.empty(train.num_users, width, dtype=torch.int32)
            for block in stretches(train.num_users, BLOCK):
                found = teacher.lists(width, train, users=block, among=group).ids
                lists[block.start : block.stop] = found.to("cpu", torch.int32)
                if self.progress is not None:
                    done = at * train.num_users + block.stop
                    self.progress("ranking popularity groups", done, len(groups) * train.num_users)
            self._lists.append(lists)
        self._device = device_of(student)

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw the pairs of all users: a pure function of (seeds, epoch, user, group, slot)."""
        users = len(self._lists[0])
        better = torch.full((users, sum(self._drawn)), -1, dtype=torch.int32)
        worse = better.clone()
        for block in stretches(users, BLOCK):
            rows, at, first = np.arange(block.start, block.stop), slice(block.start, block.stop), 0
            for group, (lists, pairs) in enumerate(zip(self._lists, self._drawn, strict=True)):
                here, columns = lists[at], slice(first, first + pairs)
                key = self.seeds.key("unkd/pairs", epoch, group)
                lengths = (here >= 0).sum(1).numpy()
                for out, positions in zip(
                    (better, worse), draw_pairs(rows, lengths, pairs, self.config.temperature, key), strict=True
                ):
                    drawn = torch.from_numpy(positions)
                    out[at, columns] = here.gather(1, drawn.clamp(min=0)).masked_fill(drawn < 0, -1)
                first += pairs
        self._better, self._worse = better.to(self._device), worse.to(self._device)

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over the batch's rows, repeats included."""
        users, tables = step.batch.users, step.tables
        ids = torch.cat([self._better[users], self._worse[users]], 1)
        scores = ops.gather_dot(
            tables.user_vectors(users), tables.items, ids, validate=False, sparse_grad=tables.sparse
        )
        pairs = ids.shape[1] // 2
        better, worse = torch.split_with_sizes(scores, [pairs, pairs], 1)
        per_pair = ops.pairwise(better.reshape(-1), worse.reshape(-1, 1)).reshape(better.shape)
        count = (ids[:, :pairs] >= 0).sum(1).clamp(min=1)
        per_row = per_pair.sum(1) / count
        loss = per_row.sum() if self.config.reduction == "sum" else per_row.mean()
        return LossParts(kd=self.config.weight * loss, parts={"unkd": loss.detach()})


METHODS.add(UnKD.name, UnKD)
