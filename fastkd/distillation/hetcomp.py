"""HetComp: an ensemble of unlike teachers, learned from their easy early states to their final ones.

Kang et al., "Distillation from heterogeneous models for top-K recommendation" (WWW'23).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import CheckpointError, ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation._draws import shuffled_heads
from fastkd.distillation._sides import BLOCK, reduced, stretches, with_lists
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import VALUE, Cost, Shape, Work, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, weighted_entities
from fastkd.distillation.method import METHODS, LossParts, Method, Step
from fastkd.distillation.refresh import teacher_ids
from fastkd.models import rank_consensus
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

_NOTHING = -1e30
"""Stands for the log of an empty sum where a score is subtracted from it."""


@dataclass(frozen=True, kw_only=True)
class HetCompConfig:
    """Options of HetComp; the defaults are the published ones.

    ``weight``: of the final loss, for a sum over distinct users; ``early_factor``: how much more the early loss counts
    (0.01 and 0.005). ``use_base_loss``: the authors train on the distillation loss alone; True adds the base loss.
    ``ranked``: K items of the target list, of which the final loss orders the first K / 2 and the first K / 10.
    ``positives``: training items per user in the losses. ``states``: checkpoints taken of each teacher's trajectory,
    evenly, the last one included. ``list_length``: of the lists kept for each state; an item behind it has no
    importance. ``decay``: of the importance ``exp(-rank / decay)``, and of the gain. ``compare``: length at which the
    student is compared with a state. ``update``: epochs between moves (p). ``alpha``, ``alpha_decay``: a user moves on
    when the distance to the next state was ``alpha * alpha_decay ** (epoch // p)`` times what it is now.
    """

    weight: float = 0.005
    early_factor: float = 2.0
    use_base_loss: bool = False
    ranked: int = 100
    positives: int = 10
    states: int = 4
    list_length: int = 100
    decay: float = 10.0
    compare: int = 50
    update: int = 10
    alpha: float = 1.05
    alpha_decay: float = 0.995
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight)
        positive(early_factor=self.early_factor, decay=self.decay, alpha=self.alpha, alpha_decay=self.alpha_decay)
        at_least(1, ranked=self.ranked, states=self.states, compare=self.compare, update=self.update)
        at_least(0, positives=self.positives)
        one_of("reduction", self.reduction, ("sum", "mean"))
        if self.compare > self.list_length:
            raise ConfigError(f"compare={self.compare} items need lists as long, got list_length={self.list_length}")


def ndcg_distance(student: Tensor, state: Tensor, *, decay: float = 10.0) -> Tensor:
    """Return ``D = 1 - NDCG`` of the student's list Int[B, C] against a state's Int[B, C], Float64[B].

    ``DCG = sum_k (2^exp(-k / decay) - 1) [student's k-th item is in the state's list] / log2(k + 2)``, k from 0, over
    that sum with every item in. The gain goes by the student's position, as in the authors' code. A student's list
    that ends early is compared at its own length; an empty one has distance 0.
    """
    k = torch.arange(student.shape[1], dtype=torch.float64, device=student.device)
    parts = (torch.exp2(torch.exp(-k / decay)) - 1) / torch.log2(k + 2)
    ranks = ops.ranks_within(student, state)
    found = ((ranks > 0) & (ranks <= state.shape[1])).double() @ parts
    most = (student >= 0).double() @ parts
    return torch.where(most > 0, 1 - found / most.clamp(min=1e-300), 0.0)


def early_loss(positives: Tensor, targets: Tensor, others: Tensor) -> Tensor:
    """Return ``L_over = sum_i -log(exp s_i / (exp s_i + Z))`` over both lists, Float[B]; ``others``: log Z, Float[B].

    ``positives``, ``targets``: scores Float[B, P], Float[B, K]; -inf is padding.
    """
    scores = torch.cat([positives, targets], 1) - others.clamp(min=_NOTHING).unsqueeze(1)
    return ops.weighted_bce(scores, torch.ones_like(scores))


def final_loss(positives: Tensor, targets: Tensor, others: Tensor, head: int) -> Tensor:
    """Return ``L_rank = PL(P; Z_1) + 1/2 (PL(T; Z_1) + PL(T_{1:head}; Z_2))``, Float[B].

    ``targets``: T, the first half of the target list. ``others``: log Z_1, the catalogue without T and the training
    items. ``Z_2 = Z_1 + sum_{T behind head} exp s``: a sum of what is known, so no second sweep and no difference.
    """
    first, behind = torch.split_with_sizes(targets, [head, targets.shape[1] - head], 1)
    rest = others.unsqueeze(1)
    ordered = ops.relaxed_ranking(targets, rest) + ops.relaxed_ranking(first, torch.cat([rest, behind], 1))
    return ops.relaxed_ranking(positives, rest) + ordered / 2


class HetComp(Method):
    """Each user has a state of each teacher's trajectory to learn; who comes close to the next one moves on to it.

    The target list is the consensus of the states' lists. Until all users are at the final states the early loss asks
    only that positives and targets score above the rest; then the final loss orders them. Both normalise over the whole
    catalogue. Teachers are the members of a :class:`~fastkd.models.TeacherGroup`, or one alone, each with the
    checkpoints of its :class:`~fastkd.models.TeacherTrajectory`. What is kept: ``list_length`` ids per user and state.

    The importance is not readable in the published files; ``exp(-rank / 10)`` within the first 100 is that of the same
    first author's ConCF. The ten positives per user are a random choice of ours (the authors' file of them is not
    published).
    """

    name: ClassVar[str] = "hetcomp"
    paper: ClassVar[str] = "Kang et al., WWW'23"
    config_type: ClassVar[type[HetCompConfig]] = HetCompConfig
    knowledge: ClassVar[str] = "ranked lists of checkpoints"
    config: HetCompConfig

    @classmethod
    def cost(cls, config: HetCompConfig, at: Shape) -> Cost:
        """Return the cost with one teacher: a step sweeps the catalogue for its distinct users, twice backward."""
        lists = config.states * config.list_length
        sweep = ranking(at.batch_users, at.items, at.dim) * 3 + Work(0.0, VALUE * at.items * at.dim)
        return Cost(
            prepare=ranking(at.users, at.items, at.teacher_dim) * config.states + storing(at.users, lists),
            refresh=ranking(at.users, at.items, at.dim) + storing(at.users, config.ranked),
            every=config.update,
            step=sweep + scoring(at.batch_users, config.ranked + config.positives, at.dim),
            memory=held(at.users, lists + 2 * config.ranked + config.positives) + VALUE * at.interactions,
        )

    @property
    def uses_base_loss(self) -> bool:
        """Return whether the base loss trains the student too."""
        return self.config.use_base_loss

    def remarks(self, teacher: Teacher, train: Interactions) -> tuple[str, ...]:
        """Say which teachers have kept fewer states than are asked for, and whether a list leaves nothing behind it."""
        counts = [len(member.checkpoints) for member in teacher.members]
        most = int((train.num_items - np.diff(train.indptr)).max(initial=0))
        behind = (
            f"ranked={self.config.ranked} takes all items that a user has left, at most {most}: none stands behind, "
            "and the early loss is 0. A smaller ranked would work",
        )
        short = behind if self.config.ranked >= most else ()
        if min(counts) >= self.config.states:
            return short
        kept = ", ".join(map(str, counts)) + (": no easy targets to begin with" if max(counts) == 1 else "")
        return (
            f"hetcomp asks for {self.config.states} states of each teacher, there are {kept}. "
            "Keep more with teacher.training.keep_every=EPOCHS, or give a folder of checkpoints as --teacher",
            *short,
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Rank the catalogue once with every state of every teacher; keep the heads of the lists, Int32[V, U, L]."""
        config = self.config
        same_shape(teacher, student, train)
        self._device, self._train = device_of(student), train
        chosen = [_spread(member.checkpoints, config.states) for member in teacher.members]
        self._lists = self._state_lists(chosen)
        at = shuffled_heads(train.indptr, config.positives, self.seeds.key("hetcomp/positives"))
        items = train.indices[np.maximum(at, 0)] if train.nnz else np.full_like(at, -1)
        self._positives = torch.from_numpy(np.where(at < 0, -1, items).astype(np.int32)).to(self._device)
        self._reset()

    def _state_lists(self, chosen: list[list[Teacher]]) -> list[Tensor]:
        """Return Int32[V, U, L] of each teacher."""
        host, counts = torch.device("cpu"), [len(states) for states in chosen]
        lists: list[Tensor] = []
        for state in itertools.chain(*chosen):
            what = f"ranking by teachers' states, {len(lists) + 1} of {sum(counts)}"
            lists.append(teacher_ids(self, state, self.config.list_length, self._train, host, what=what))
        ends = itertools.accumulate(counts)
        return [torch.stack(lists[end - count : end]) for end, count in zip(ends, counts, strict=True)]

    def _reset(self) -> None:
        shape = (self._train.num_users, len(self._lists))
        # Distances as exact as they are computed: rounded ones would differ from those of a student who stood still.
        self._states, self._last = np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=np.float64)
        self._moved_at, self._targets = -1, torch.empty(0)

    @property
    def final(self) -> bool:
        """Whether all users are at the final states, up to a rounding of each teacher's mean to 2 decimals."""
        means = np.round(self._states.mean(axis=0, dtype=np.float64), 2)
        return bool(means.sum() >= sum(len(lists) - 1 for lists in self._lists))

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Every ``update`` epochs, from the second window on, move users on; then merge their states' lists."""
        if epoch > 0 and epoch % self.config.update == 0 and epoch != self._moved_at:
            if any((self._states[:, x] < len(lists) - 1).any() for x, lists in enumerate(self._lists)):
                self._move(epoch, student.frozen_tables())
                self._targets = torch.empty(0)
            self._moved_at = epoch
        if len(self._targets) == 0:
            self._merge()
            self._aim(final=self.final)

    def _move(self, epoch: int, tables: Tables) -> None:
        """Compare each user's list with the next state of each teacher and advance those who came close."""
        config, users = self.config, self._train.num_users
        first = self._moved_at < 0
        threshold = config.alpha * config.alpha_decay ** (epoch // config.update)
        for block in stretches(users, BLOCK):
            at = slice(block.start, block.stop)
            seen = self._train.rows(np.arange(block.start, block.stop))
            width = min(config.compare, len(tables.items))
            best = ops.rank_topk(tables.users[at], tables.items, width, exclude=seen).ids.cpu()
            for x, lists in enumerate(self._lists):
                states, last = self._states[at, x], self._last[at, x]  # views: written in place
                distance = self._distance(best, lists[:, at], states)
                if first:
                    last[:] = distance
                    continue
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.where(distance == 0, np.inf, last / distance)
                move = (states < len(lists) - 1) & ((ratio > threshold) | (ratio < 1))
                states[move] += 1
                last[move] = self._distance(best, lists[:, at], states)[move]
            if self.progress is not None:
                self.progress("comparing with teachers' states", block.stop, users)

    def _distance(self, best: Tensor, lists: Tensor, states: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return the distance to the state after each user's present one, the final one at most."""
        following = torch.from_numpy(np.minimum(states.astype(np.int64) + 1, len(lists) - 1))
        targets = lists[following, torch.arange(len(best)), : self.config.compare]
        distance: NDArray[np.float64] = ndcg_distance(best, targets.long(), decay=self.config.decay).numpy()
        return distance

    def _merge(self) -> None:
        """Make each user's target list Int32[U, K], the consensus of his states' lists."""
        users, targets = self._train.num_users, []
        for block in stretches(users, BLOCK):
            rows = torch.arange(block.start, block.stop)
            states = torch.from_numpy(self._states[block.start : block.stop].astype(np.int64))
            present = [lists[states[:, x], rows] for x, lists in enumerate(self._lists)]
            targets.append(rank_consensus(present, self.config.ranked, decay=self.config.decay).ids.to(torch.int32))
        self._targets = torch.cat(targets).to(self._device)

    def _aim(self, *, final: bool) -> None:
        """Choose the loss, the targets it takes, and what its sum over the other items leaves out."""
        self._is_final = final
        self._listed = self._targets[:, : max(1, self.config.ranked // 2)] if final else self._targets
        self._hidden = with_lists(self._train, self._listed)

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over distinct users of the early or the final loss."""
        config, tables = self.config, step.tables
        users, weights = weighted_entities([step.batch.users])
        head = max(1, config.ranked // 10)
        targets = self._listed[users].long()
        positives, vectors = self._positives[users].long(), tables.user_vectors(users)
        ids = torch.cat([positives, targets], 1)
        scores = ops.gather_dot(vectors, tables.items, ids, validate=False, sparse_grad=tables.sparse)
        chosen, wanted = torch.split_with_sizes(scores, [positives.shape[1], targets.shape[1]], 1)
        others = ops.catalogue_logsumexp(vectors, tables.items, (self._hidden, users), validate=False)
        if self._is_final:
            per_user, factor, name = final_loss(chosen, wanted, others, head), 1.0, "hetcomp_rank"
        else:
            per_user, factor, name = early_loss(chosen, wanted, others), config.early_factor, "hetcomp_over"
        loss = reduced(per_user, weights, config.reduction)
        return LossParts(kd=config.weight * factor * loss, parts={name: loss.detach()})

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return every user's states, last distances, and the epoch of the last move."""
        return {"moved_at": np.array([self._moved_at], dtype=np.int64), "states": self._states, "last": self._last}

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore :meth:`state_dict`, after ``prepare``; states of other users or teachers are refused."""
        self._reset()
        if not state:
            return
        for name in ("states", "last"):
            got = list(state[name].shape) if name in state else "nothing"
            if got != list(self._states.shape):
                raise CheckpointError(f"hetcomp state {name}: expected shape {list(self._states.shape)}, got {got}")
        self._states, self._last = np.array(state["states"], np.int16), np.array(state["last"], np.float64)
        self._moved_at = int(state["moved_at"].reshape(-1)[0])


def _spread(checkpoints: tuple[Teacher, ...], count: int) -> list[Teacher]:
    """Return at most ``count`` checkpoints at even distances, the last one included."""
    if count == 1:
        return [checkpoints[-1]]
    at = np.linspace(0, len(checkpoints) - 1, min(count, len(checkpoints)))
    return [checkpoints[round(i)] for i in at.tolist()]


METHODS.add(HetComp.name, HetComp)
