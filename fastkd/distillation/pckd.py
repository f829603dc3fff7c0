"""PCKD: Preference-Consistent Knowledge Distillation.

Zhu and Zhang, "Preference-consistent knowledge distillation for recommender system" (arXiv 2311.04549). The formulas
are those of the authors' code, where the method is called CPD; the hybrid, which it lacks, is our reading of one
sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastkd import ops
from fastkd.core.interactions import Interactions
from fastkd.core.philox import philox4x32
from fastkd.distillation._experts import ExpertPair, RoutingConfig, mixture_memory, mixture_work
from fastkd.distillation._features import (
    Kind,
    entities_of,
    expected_entities,
    squared_error,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation._preference import list_consistency, order_kept, pair_consistency
from fastkd.distillation._sides import listed
from fastkd.distillation.checks import at_least, device_of, not_negative, one_of, positive
from fastkd.distillation.cost import Cost, Shape, distinct, held, ranking, storing
from fastkd.distillation.entities import Entities, Reduction, counted_rows
from fastkd.distillation.method import METHODS, LossParts, OptimizerGroup, Step
from fastkd.distillation.refresh import Window, Windowed, block_lists, teacher_ids, user_blocks
from fastkd.models.protocol import Recommender
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class PCKDConfig(RoutingConfig):
    """Options of PCKD; the defaults are the authors' for citeulike. Experts and annealing: :class:`RoutingConfig`.

    ``weight``: lambda, for sums over distinct entities (matching) and rows (regulariser). ``alpha``: the
    regulariser's part. ``regulariser``: ``"list"``, ``"pair"`` or ``"hybrid"``, both. ``listed``: Q items of a list.
    ``top``: the guide's list they are drawn from; ``sharpness``: T of the draw, exp(-rank / T). ``list_temperature``:
    tau of the list's softmaxes. ``guide``: whose list, ``"student"`` as in the paper's algorithm or ``"teacher"`` as
    in all published settings. ``update``: epochs between rankings by a student guide; draws are new each epoch.
    ``reduction`` over entities and over rows.
    """

    weight: float = 0.05
    alpha: float = 0.1
    regulariser: Literal["list", "pair", "hybrid"] = "list"
    listed: int = 5
    top: int = 100
    sharpness: float = 10.0
    list_temperature: float = 0.1
    guide: Literal["student", "teacher"] = "student"
    update: int = 1
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative(weight=self.weight, alpha=self.alpha)
        at_least(1, update=self.update)
        at_least(2, listed=self.listed, top=self.top)
        positive(sharpness=self.sharpness, list_temperature=self.list_temperature)
        one_of("regulariser", self.regulariser, ("list", "pair", "hybrid"))
        one_of("guide", self.guide, ("student", "teacher"))
        one_of("reduction", self.reduction, ("sum", "mean"))
        at_least(self.listed, top=self.top)


class PCKD(Windowed):
    """L = DE's loss + alpha R, where R keeps the order of a user's items through the projectors.

    Scores: a_ui = <p_u, q_i> before and b_ui = <P_U(p_u), P_I(q_i)> behind them. R_list = sum over rows of the cross
    entropy of softmax(b_u / tau) against softmax(a_u / tau) over Q drawn items; R_pair = sum over rows of
    -log sigma((b_ui - b_uj)(a_ui - a_uj)) of two drawn items; hybrid: R_list + R_pair, its j uniform over all items.
    R's student vectors are constants, so its gradient trains projectors and selection nets only. Items come from the
    guide's best ``top`` of all items, training positives included. Reported beside the losses: ``pckd_order_kept``, the
    share of pairs of a user's drawn items that stand in the same order before and behind the projectors.
    """

    name: ClassVar[str] = "pckd"
    paper: ClassVar[str] = "Zhu & Zhang, arXiv 2311.04549"
    config_type: ClassVar[type[PCKDConfig]] = PCKDConfig
    knowledge: ClassVar[str] = "vectors"
    config: PCKDConfig

    @classmethod
    def cost(cls, config: PCKDConfig, at: Shape) -> Cost:
        """Return the cost with all experts at work: DE's, and that of the distinct drawn items and their users."""
        again = at.batch_users + distinct(at.batch_users * config.listed, at.items)
        dim = at.dim if config.guide == "student" else at.teacher_dim
        ranked = ranking(at.users, at.items, dim) + storing(at.users, config.top)
        by_student = config.guide == "student"
        draws = storing(at.users, config.listed)
        return Cost(
            prepare=ranked * (0.0 if by_student else 1.0),
            refresh=draws + ranked * (1.0 if by_student else 0.0),
            every=1,
            step=mixture_work(config.experts, expected_entities(at) + again, at),
            memory=mixture_memory(config.experts, at) + held(at.users, config.top + config.listed),
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors, rank with it where it guides, make the experts; a teacher of lists is refused."""
        config, device = self.config, device_of(student)
        self._teacher = teacher_vectors(teacher, student, train)
        widths = (student.dim, self._teacher.users.shape[1])
        self._experts = ExpertPair(config, widths, epochs, self.seeds, "pckd", device)
        shape = (train.num_users, config.top)
        self._window = Window(self.name, config.update, {"top": shape}, device)
        self._train, self._top = train, torch.empty(0)
        if config.guide == "teacher":
            self._top = teacher_ids(self, teacher, config.top, None, device)

    def begin_epoch(self, epoch: int, student: Recommender) -> None:
        """Rank with a student guide when its window is over; draw items, a function of (seeds, epoch, user)."""
        config = self.config
        if config.guide == "student":
            if self._window.due(epoch):
                tables, top = student.frozen_tables(), self._window.open(epoch)["top"]
                for users in user_blocks(self, len(top), "ranking by the student", width=config.top):
                    top[users.to(top.device)] = block_lists(tables, users, config.top, None).to(torch.int32)
            self._top = self._window["top"]
        self._lists, self._pairs = None, None
        if config.regulariser != "pair":
            self._lists = self._drawn(config.listed, "list", epoch)
        if config.regulariser == "pair":
            self._pairs = self._drawn(2, "pair", epoch)
        if config.regulariser == "hybrid":
            # One item and not the better of two: draws come in the list's order.
            self._pairs = torch.cat([self._drawn(1, "pair", epoch), self._uniform(epoch).unsqueeze(1)], 1)

    def _drawn(self, columns: int, what: str, epoch: int) -> Tensor:
        """Return Int32[U, columns] drawn without replacement from the guide's lists, -1 where there are too few."""
        top = self._top
        drawn = torch.empty(len(top), columns, dtype=torch.int32, device=top.device)
        seed = self.seeds.key(f"pckd/{what}") >> 1
        for block in user_blocks(self, len(top), "drawing", width=self.config.top):
            users = block.to(top.device)
            rows = top[users]
            lengths = (rows >= 0).sum(1)
            places = ops.sample_ranked(
                users, lengths, columns, temperature=self.config.sharpness, seed=seed, epoch=epoch,
                max_length=self.config.top,
            )  # fmt: skip
            drawn[users] = rows.gather(1, places.clamp(min=0)).masked_fill_(places < 0, -1)
        return drawn

    def _uniform(self, epoch: int) -> Tensor:
        """Return an item for each user, uniform over the catalogue, Int32[U]."""
        users = np.arange(self._train.num_users)
        word = philox4x32((users, users >> 32, 0, 0), self.seeds.key("pckd/uniform", epoch))[0]
        # The high word of a product: within 2^-32 N of uniform.
        items = (word.astype(np.uint64) * np.uint64(self._train.num_items)) >> np.uint64(32)
        return torch.from_numpy(items.astype(np.int32)).to(self._top.device)

    def loss(self, step: Step) -> LossParts:
        """Return weight * (matching + alpha regulariser)."""
        config = self.config
        of_users, of_items = self._error("user", step), self._error("item", step)
        regulariser, kept = self._regulariser(step)
        loss = of_users + of_items + config.alpha * regulariser
        parts = {"pckd_users": of_users, "pckd_items": of_items, "pckd_regulariser": regulariser}
        parts["pckd_order_kept"] = kept
        return LossParts(kd=config.weight * loss, parts={name: value.detach() for name, value in parts.items()})

    def _error(self, kind: Kind, step: Step) -> Tensor:
        """Return the weighted sum of ``|t - mix(s)|^2`` over entities of one kind."""
        ids, weights = entities_of(kind, step.batch, self.config.reduction)
        wanted = teacher_rows(kind, self._teacher, ids)
        student = student_rows(kind, step.tables, ids)
        guess = self._experts.guess(kind, ids, student, wanted, epoch=step.epoch, step=step.step)
        return squared_error(wanted, guess, weights)

    def _regulariser(self, step: Step) -> tuple[Tensor, Tensor]:
        """Return the weighted sum over rows, and the share of pairs whose order the projectors keep."""
        config = self.config
        users, weights = counted_rows(step.batch.users, reduction=config.reduction)
        lists = [table[users] for table in (self._lists, self._pairs) if table is not None]
        drawn = torch.cat(lists, dim=1).to(torch.int64).masked_fill_((weights == 0).unsqueeze(1), -1)
        items = listed([drawn])
        before, behind = self._scores(users, items, drawn, step)
        columns = config.listed if self._lists is not None else 0
        total, kept = before.new_zeros(()), (before[:, :columns], behind[:, :columns])
        if columns:
            total = (list_consistency(*kept, config.list_temperature) * weights).sum()
        if self._pairs is not None:
            pair = (before[:, columns:], behind[:, columns:])
            total = total + (pair_consistency(*pair) * weights).sum()
            kept = kept if columns else pair
        return total, order_kept(*kept, weights)

    def _scores(self, users: Tensor, items: Entities, drawn: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        """Return a and b, Float[n, C], of the drawn items; -inf where there is none. Each entity is projected once."""
        # Slots without an item follow the ascending ids, or hold padding in front of them.
        last = torch.arange(len(items.ids), device=drawn.device) > 0
        ascending = items.ids.masked_fill((items.ids < 0) & last, torch.iinfo(torch.int64).max)
        places = torch.searchsorted(ascending, drawn).masked_fill(drawn < 0, -1)
        rows: dict[Kind, tuple[Tensor, Tensor]] = {}
        asked: dict[Kind, Tensor] = {"user": users, "item": items.ids.clamp(min=0)}
        for kind, ids in asked.items():
            student = student_rows(kind, step.tables, ids).detach()
            teacher = teacher_rows(kind, self._teacher, ids)
            guess = self._experts.guess(kind, ids, student, teacher, epoch=step.epoch, step=step.step, call="/kept")
            rows[kind] = (student, guess)
        (pre, post), (pre_items, post_items) = rows["user"], rows["item"]
        before = ops.gather_dot(pre, pre_items, places, validate=False)
        return before, ops.gather_dot(post, post_items, places, validate=False)

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the experts' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("pckd/experts", list(self._experts.modules.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the experts of users and items as one module."""
        return {"experts": self._experts.modules}


METHODS.add(PCKD.name, PCKD)
