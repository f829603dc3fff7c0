"""PRM-KD: many frozen teachers, each heard as far as it is sure of a user's items and agrees with the others.

"Distillation is all you need for practically using different pre-trained recommendation models" (arXiv 2401.00797).
Only its abstract could be read; the formulas are ours, and no parity is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fastkd import ops
from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.distillation._mixture import mixture
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive, same_shape
from fastkd.distillation.cost import Cost, Shape, held, ranking, scoring, storing
from fastkd.distillation.entities import Reduction, counted_rows
from fastkd.distillation.method import METHODS, LossParts, Method, Step
from fastkd.distillation.refresh import teacher_ids, user_blocks
from fastkd.models.list_teacher import ListTeacher
from fastkd.models.pairs import PairTables
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher
from fastkd.sampling import NegativeSampler


@dataclass(frozen=True, kw_only=True)
class PRMKDConfig:
    """Options of PRM-KD; the defaults are ours.

    ``weight``: lambda, for a sum over the rows of the batch beside a base loss summed over its rows. ``temperature``:
    of the student's softmax; the loss has the factor T^2. ``teacher_temperatures``: one for each teacher, or one for
    all. ``standardise``: bring each teacher's scores of a user's candidates to mean 0 and deviation 1 first, so that
    cosines and inner products are heard alike. ``confidence``, ``consistency``: exponents a and g of the two in a
    teacher's weight. ``priors``: v, one for each teacher or one for all: what else is known of their worth, such as
    their quality on the validation split. Equal ones and exponents 0 are the plain average. A user's candidates:
    ``positives`` of his training items, the first ``listed`` of the consensus of the teachers' lists, and ``drawn``
    others, drawn as often as users took them, as the other rows of a batch would be. ``update``: epochs between draws.
    ``reduction`` over rows.
    """

    weight: float = 0.1
    temperature: float = 1.0
    teacher_temperatures: tuple[float, ...] = (1.0,)
    standardise: bool = True
    confidence: float = 1.0
    consistency: float = 1.0
    priors: tuple[float, ...] = (1.0,)
    positives: int = 1
    listed: int = 0
    drawn: int = 64
    update: int = 1
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight, confidence=self.confidence, consistency=self.consistency)
        positive(temperature=self.temperature)
        positive(**{f"teacher_temperatures[{m}]": value for m, value in enumerate(self.teacher_temperatures)})
        not_negative(**{f"priors[{m}]": value for m, value in enumerate(self.priors)})
        if sum(self.priors) == 0:
            raise ConfigError(f"priors are {list(self.priors)}: one at least must be above 0")
        at_least(1, positives=self.positives, update=self.update)
        at_least(0, listed=self.listed, drawn=self.drawn)
        if self.listed + self.drawn == 0:
            raise ConfigError("listed=0 and drawn=0 leave no candidates beside the positives; one must be above 0")
        one_of("reduction", self.reduction, ("sum", "mean"))


class PRMKD(Method):
    """``L = T^2 sum over rows of sum_m w_m(u) KL(p^m || softmax(s_u / T))`` over the candidates of the row's user.

    Candidates are some training items of the user, and items he did not take: listed by teachers, or drawn. Teacher m
    gives ``p^m = softmax(t^m / T_m)`` over them and is weighted by its prior, its confidence, what p^m gives to the
    positives, and its consistency with the mean of all (:func:`~fastkd.distillation._mixture.mixture`). The sum over
    teachers is one cross entropy against ``q = sum_m w_m p^m``, made for all users before an epoch: a step costs the
    same however many teachers there are, and teachers, constants, are not asked in it.

    Teachers are the members of a :class:`~fastkd.models.TeacherGroup`, of any kinds, or one alone. In a teacher of
    lists what is not listed has the score of the last listed item.
    """

    name: ClassVar[str] = "prm_kd"
    paper: ClassVar[str] = "after arXiv 2401.00797, 2024"
    config_type: ClassVar[type[PRMKDConfig]] = PRMKDConfig
    knowledge: ClassVar[str] = "scores, of several teachers"
    config: PRMKDConfig

    @classmethod
    def cost(cls, config: PRMKDConfig, at: Shape) -> Cost:
        """Return the cost with one teacher: a refresh scores every user's candidates, a step is a loss over them."""
        width = config.positives + config.listed + config.drawn
        made = scoring(at.users, width, at.teacher_dim, gradient=False) + storing(at.users, width, values=2)
        memory = held(at.users, width, values=2) + held(at.users, 2)
        step = scoring(at.batch_users, width, at.dim)
        if config.listed == 0:
            return Cost(refresh=made, every=config.update, step=step, memory=memory)
        prepare = ranking(at.users, at.items, at.teacher_dim) + storing(at.users, config.listed)
        memory += held(at.users, config.listed)
        return Cost(prepare=prepare, refresh=made, every=config.update, step=step, memory=memory)

    def remarks(self, teacher: Teacher, train: Interactions) -> tuple[str, ...]:
        """Say which teachers are lists, whose confidence shows only if training items are listed too."""
        lists = [n for n, m in enumerate(teacher.members, 1) if isinstance(m.checkpoints[-1], ListTeacher)]
        if not lists or len(teacher.members) == 1 or self.config.confidence == 0:
            return ()
        return (
            f"prm_kd weighs teachers by what they give to training items; lists that leave these out (teacher "
            f"{', '.join(map(str, lists))} of {len(teacher.members)} is one of lists) look unsure. Export them with "
            "training items, or set options.confidence=0",
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Keep the teachers; with ``listed`` > 0 rank the catalogue once with each of them."""
        config = self.config
        same_shape(teacher, student, train)
        self._members = tuple(member.checkpoints[-1].at_hand() for member in teacher.members)
        for option in ("teacher_temperatures", "priors"):
            given = getattr(config, option)
            if len(given) not in (1, len(self._members)):
                count = f"each of the {len(self._members)} teacher(s)"
                raise ConfigError(f"{option} are {list(given)}: give one for {count}, or one for all")
        self._train, self._device, self._start = train, device_of(student), -1
        self._degrees = torch.from_numpy(train.degrees())
        self._best = torch.empty(train.num_users, 0, dtype=torch.int32)
        if config.listed:
            self._best = teacher_ids(self, teacher, config.listed, train, torch.device("cpu"))
        seed = self.seeds.key("prm_kd/drawn") >> 1
        self._sampler = NegativeSampler(train, distribution="popularity", alpha=1.0, seed=seed)

    @property
    def teacher_weights(self) -> Tensor:
        """Return how far each teacher is heard by each user this epoch, Float32[U, X]; rows sum to 1."""
        if self._start < 0:
            raise ValueError("prm_kd has no weights yet: call begin_epoch(epoch, student) first")
        return self._weights

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Draw positives and candidates, and mix what the teachers say about them: a function of (seeds, epoch)."""
        start = epoch - epoch % self.config.update
        if start == self._start:
            return
        config, users, device = self.config, self._train.num_users, self._device
        width = config.positives + config.listed + config.drawn
        self._ids = torch.full((users, width), -1, dtype=torch.int32, device=device)
        self._targets = torch.full((users, width), -torch.inf, device=device)
        self._entropy = torch.zeros(users, device=device)
        self._weights = torch.zeros(users, len(self._members))
        # The mixture holds some eight tables of every teacher's float64 values at a time.
        cells = 16 * width * (len(self._members) + 1)
        for block in user_blocks(self, users, "asking the teachers", width=cells):
            ids = self._candidates(block, start)
            scores = torch.stack([member.scores(block, ids).to(device) for member in self._members])
            mixed = mixture(
                scores,
                config.positives,
                temperatures=config.teacher_temperatures,
                standardise=config.standardise,
                confidence=config.confidence,
                consistency=config.consistency,
                priors=config.priors,
            )
            at = slice(int(block[0]), int(block[-1]) + 1)
            self._ids[at], self._targets[at] = ids.to(device), mixed.log_shares.float()
            self._entropy[at], self._weights[at] = mixed.entropy.float(), mixed.weights.float().cpu()
        self._start = start

    def _candidates(self, users: Tensor, epoch: int) -> Tensor:
        """Return positives, listed and drawn items of a stretch of users, Int32[b, C] with -1 where there are fewer."""
        config = self.config
        seed = self.seeds.key("prm_kd/positives") >> 1
        places = ops.sample_ranked(
            users, self._degrees[users], config.positives, temperature=float("inf"), seed=seed, epoch=epoch
        )
        indptr, items = self._train.to_torch()
        first = indptr[users].long().unsqueeze(1)
        positives = torch.full_like(places, -1)
        if len(items):
            positives = items[(first + places.clamp(min=0)).clamp(max=len(items) - 1)].long()
            positives = positives.masked_fill(places < 0, -1)
        listed = self._best[users]
        drawn = self._sampler.sample(
            users, config.drawn, epoch=epoch, exclude_lists=listed, replacement=False, on_exhausted="pad"
        )
        return torch.cat([positives.to(torch.int32), listed, drawn.to(torch.int32)], 1)

    def loss(self, step: Step) -> LossParts:
        """Return weight * reduction over rows of the teachers' divergences from the student."""
        config, tables = self.config, step.tables
        users, weights = counted_rows(step.batch.users, reduction=config.reduction)
        # Slots without a user (weight 0) become rows of padding: nothing is gathered for them.
        ids = self._ids[users].masked_fill_((weights == 0).unsqueeze(1), -1)
        targets = self._targets[users] * config.temperature
        if isinstance(tables, PairTables):
            scores = tables.scores(users, ids)
            crossed = ops.listnet(scores, targets, temperature=config.temperature)
        else:
            crossed = ops.listnet_from_embeddings(
                tables.user_vectors(users),
                tables.items,
                ids,
                targets,
                temperature=config.temperature,
                validate=False,
                sparse_grad=tables.sparse,
            )
        loss = config.temperature**2 * ((crossed - self._entropy[users]) * weights).sum()
        return LossParts(kd=config.weight * loss, parts={"prm_kd": loss.detach()})


METHODS.add(PRMKD.name, PRMKD)
