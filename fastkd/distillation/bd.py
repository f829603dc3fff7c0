"""BD: Bidirectional Distillation, teacher and student trained together.

Kweon et al., "Bidirectional distillation for top-K recommender system" (WWW'21).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastkd import ops
from fastkd.core.errors import CheckpointError, DataError
from fastkd.core.interactions import Interactions
from fastkd.distillation._rank_draws import BLOCK_DRAWS, BLOCK_USERS, rank_blocks, rank_sides
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import VALUE, Cost, Shape, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Outlook, Step
from fastkd.models.pairs import PairRecommender
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher

Direction = Literal["teacher_to_student", "student_to_teacher"]


@dataclass(frozen=True, kw_only=True)
class BDConfig:
    """Options of BD; the defaults are the published ones.

    ``weight``, ``teacher_weight``: lambda_S and lambda_T, for sums over the rows of the batch beside base losses
    summed over its rows. ``student_temperature``, ``teacher_temperature`` divide the scores of the one that gives.
    ``negatives``: items drawn per interaction and learner. ``update``: epochs between refreshes of the rankings.
    ``epsilon_student`` = eps * N of p(j) ~ tanh(max((r_S - r_T) eps, 0)), the student's items; ``epsilon_teacher`` =
    eps * N of p(j) ~ exp((r_T - r_S) eps), the teacher's (published as eps = 1e-2 and 1e-4 at N = 25187).
    ``rank_sign=-1`` turns both differences round, as the authors' code does: learners then meet what they
    over-rank. ``base_negatives``: ``"uniform"`` leaves BPR its uniform negatives; ``"drawn"`` uses each drawn item
    as that row's BPR negative too, as the authors' code does. That fits ``rank_sign=-1`` (the items are hard
    negatives); with the paper's sign one term would push down what the other pulls up. ``teacher_lr``,
    ``teacher_weight_decay`` are the teacher's own.
    """

    weight: float = 0.5
    teacher_weight: float = 0.5
    student_temperature: float = 5.0
    teacher_temperature: float = 5.0
    negatives: int = 1
    update: int = 10
    epsilon_student: float = 252.0
    epsilon_teacher: float = 2.5
    rank_sign: Literal[1, -1] = 1
    base_negatives: Literal["uniform", "drawn"] = "uniform"
    teacher_lr: float = 1e-3
    teacher_weight_decay: float = 0.0
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(
            weight=self.weight, teacher_weight=self.teacher_weight, teacher_weight_decay=self.teacher_weight_decay
        )
        positive(student_temperature=self.student_temperature, teacher_temperature=self.teacher_temperature)
        positive(epsilon_student=self.epsilon_student, epsilon_teacher=self.epsilon_teacher, teacher_lr=self.teacher_lr)
        at_least(1, negatives=self.negatives, update=self.update)
        one_of("rank_sign", self.rank_sign, (1, -1))
        one_of("base_negatives", self.base_negatives, ("uniform", "drawn"))
        one_of("reduction", self.reduction, ("sum", "mean"))


class BD(Method):
    """Both models learn from the items on which their rankings differ.

    kd = weight * L(T->S) + base loss of the teacher + teacher_weight * L(S->T), where L(X->Y) = sum over rows of
    BCEWithLogits(y, sigmoid(x / temperature_X)) and x is not differentiated. The teacher is a copy of the given model:
    start from trained models on both sides. Draws for ``update`` epochs are made at once from frozen models; one that
    scores pairs then ranks the whole catalogue for every user, two million ranks at a time.
    """

    name: ClassVar[str] = "bd"
    paper: ClassVar[str] = "Kweon et al., WWW'21"
    config_type: ClassVar[type[BDConfig]] = BDConfig
    knowledge: ClassVar[str] = "a live model"
    config: BDConfig

    @classmethod
    def cost(cls, config: BDConfig, at: Shape) -> Cost:
        """Return the cost: every ``update`` epochs two rankings by both models; the teacher's own training step."""
        draws = storing(at.interactions, config.update * config.negatives)
        both = ranking(at.users, at.items, at.dim) + ranking(at.users, at.items, at.teacher_dim)
        learn = scoring(at.batch, config.negatives, at.dim) + scoring(at.batch, config.negatives, at.teacher_dim)
        give = scoring(at.batch, config.negatives, at.dim + at.teacher_dim, gradient=False)
        # The teacher, and the two moments of its optimiser.
        copies = 3.0 * VALUE * at.teacher_dim * (at.users + at.items)
        return Cost(
            refresh=(both + draws) * 2,
            every=config.update,
            step=learn + give + scoring(at.batch, 1 + config.negatives, at.teacher_dim),
            memory=copies + 2 * held(at.interactions, config.update * config.negatives),
        )

    def outlook(self, teacher: Teacher, student: Recommender, train: Interactions, *, device: str) -> Outlook | None:
        """Return what one refresh of both learners' draws should take; None where a model scores pairs."""
        if isinstance(student, PairRecommender) or isinstance(teacher.model, PairRecommender):
            return None
        draws = max(1, round(train.nnz / max(train.num_users, 1)) * self.config.negatives * self.config.update)
        both = [
            ops.explain_sample_rank_discrepancy(
                train.num_users,
                train.num_items,
                teacher.model.dim,
                student.dim,
                draws,
                direction=direction,
                epsilon=epsilon / train.num_items,
                device="cuda" if device == "cuda" else "cpu",
                chunk=min(BLOCK_USERS, max(1, BLOCK_DRAWS // draws)),
            )
            for direction, epsilon in self._directions()
        ]
        return Outlook(
            what=f"{draws:,} draws by rank for each of {train.num_users:,} users out of {train.num_items:,} items, "
            "by both models",
            every=self.config.update,
            seconds=sum(e.seconds for e in both),
            bytes_moved=sum(e.bytes_moved for e in both),
            scratch_bytes=max(e.scratch_bytes for e in both),
            backend=both[0].backend,
        )

    def _directions(self) -> tuple[tuple[Direction, float], ...]:
        return ("teacher_to_student", self.config.epsilon_student), ("student_to_teacher", self.config.epsilon_teacher)

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Copy the teacher's model; vectors or lists alone are refused."""
        model = teacher.model
        same_shape(teacher, student, train)
        full = np.flatnonzero(train.degrees() >= train.num_items)
        if len(full):
            raise DataError(f"user {full[0]} has seen all {train.num_items} items: nothing is left to draw for bd")
        self._device = device_of(student)
        self._teacher = copy.deepcopy(model).to(self._device).requires_grad_(True).train()
        self._train = train
        self._start = -1
        self._draws: dict[Direction, NDArray[np.int32]] = {}

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw the next ``update`` epochs when their first one starts; else read on in what was drawn."""
        start = epoch - epoch % self.config.update
        if start != self._start:
            teacher, learner = self._teacher.frozen_tables(), student.frozen_tables()
            self._tell(0)
            self._draws = self._draw(teacher, learner, start)
            self._start = start
        self._student_items = torch.from_numpy(self._drawn("teacher_to_student", epoch)).to(self._device)
        self._teacher_items = torch.from_numpy(self._drawn("student_to_teacher", epoch)).to(self._device)

    def _draw(self, teacher: Tables, student: Tables, start: int) -> dict[Direction, NDArray[np.int32]]:
        """Return items Int32[update, nnz, n] for the learner of each direction."""
        config, train = self.config, self._train
        shape = (config.update, train.nnz, config.negatives)
        drawn = {direction: np.empty(shape, dtype=np.int32) for direction, _ in self._directions()}
        counts = torch.from_numpy(train.degrees() * (config.negatives * config.update))
        for users in rank_blocks(teacher, student, counts):
            sides = rank_sides(teacher, student, users, train)
            entries = slice(train.indptr[users.start], train.indptr[users.stop])
            for turn, (direction, epsilon) in enumerate(self._directions(), start=1):
                flat = ops.sample_rank_discrepancy(
                    **sides,
                    n_per_user=counts[users.start : users.stop],
                    direction=direction,
                    epsilon=epsilon / train.num_items,
                    seed=self.seeds.key(f"bd/{direction}") >> 1,
                    epoch=start,
                    rank_sign=config.rank_sign,
                )
                # A user's draws are independent, so any fixed split of them over its entries and epochs will do.
                by_entry = flat.cpu().numpy().reshape(-1, config.update, config.negatives)
                drawn[direction][:, entries] = by_entry.transpose(1, 0, 2)
                self._tell(2 * users.start + turn * len(users))
        return drawn

    def _tell(self, done: int) -> None:
        """Report users drawn for, of both learners."""
        if self.progress is not None:
            self.progress("drawing by rank", done, 2 * self._train.num_users)

    def _drawn(self, direction: Direction, epoch: int) -> NDArray[np.int32]:
        position = epoch - self._start
        if self._start < 0 or not 0 <= position < self.config.update:
            raise ValueError(f"no draws for epoch {epoch}: call begin_epoch({epoch}, student) first")
        items: NDArray[np.int32] = self._draws[direction][position]
        return items

    def negatives(self, epoch: int) -> NDArray[Any] | None:
        """Return the student's items of this epoch, Int32[nnz, n], where they serve as its BPR negatives too."""
        return self._drawn("teacher_to_student", epoch) if self.config.base_negatives == "drawn" else None

    def loss(self, step: Step) -> LossParts:
        """Return the student's weighted term plus all of the teacher's loss."""
        config, batch = self.config, step.batch
        student, teacher = step.tables, self._teacher.tables()
        for_student = self._student_items[batch.entries].to(torch.int64)
        for_teacher = self._teacher_items[batch.entries].to(torch.int64)
        negatives = for_teacher if config.base_negatives == "drawn" else batch.negatives
        base = step.base_loss(teacher, dataclasses.replace(batch, negatives=negatives), self._teacher)
        to_student = self._bce(student, teacher, batch.users, for_student, config.teacher_temperature)
        to_teacher = self._bce(teacher, student, batch.users, for_teacher, config.student_temperature)
        return LossParts(
            kd=config.weight * to_student + base + config.teacher_weight * to_teacher,
            parts={
                "bd_to_student": to_student.detach(),
                "bd_to_teacher": to_teacher.detach(),
                "teacher_base": base.detach(),
            },
        )

    def _bce(self, learner: Tables, giver: Tables, users: Tensor, items: Tensor, temperature: float) -> Tensor:
        """Return the reduced BCE of the learner's scores against sigmoid(giver's / temperature)."""
        given = giver.detach().scores(users, items)
        per_row = ops.weighted_bce(learner.scores(users, items), torch.sigmoid(given / temperature))
        return per_row.sum() if self.config.reduction == "sum" else per_row.mean()

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the teacher's parameters with their own rate and decay."""
        config = self.config
        parameters = list(self._teacher.parameters())
        return [
            OptimizerGroup("bd/teacher", parameters, lr=config.teacher_lr, weight_decay=config.teacher_weight_decay)
        ]

    def modules(self) -> dict[str, nn.Module]:
        """Return the teacher in training."""
        return {"teacher": self._teacher}

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the draws of the current window and the epoch it started at."""
        if self._start < 0:
            return {}
        return {"start": np.array([self._start], dtype=np.int64), **dict(self._draws.items())}

    def load_state_dict(self, state: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Restore :meth:`state_dict`, after ``prepare``; draws of another shape are refused."""
        if not state:
            self._start, self._draws = -1, {}
            return
        shape = (self.config.update, self._train.nnz, self.config.negatives)
        directions: tuple[Direction, ...] = ("teacher_to_student", "student_to_teacher")
        for name in directions:
            if name not in state or state[name].shape != shape:
                got = list(state[name].shape) if name in state else "nothing"
                raise CheckpointError(f"bd state {name}: expected draws of shape {list(shape)}, got {got}")
        self._draws = {name: np.array(state[name], dtype=np.int32) for name in directions}
        self._start = int(state["start"].reshape(-1)[0])


METHODS.add(BD.name, BD)
