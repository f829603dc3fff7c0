"""FreqD: frequency-aware feature distillation by a low-pass filter on a graph of users and one of items.

Zhu and Zhang's FreqD, whose paper could not be read: the formulas are those of the authors' code (KDs library), in
which the method exists in several generations; no parity with the printed figures is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fastkd import ops
from fastkd.core.interactions import Interactions
from fastkd.distillation._cooccurrence import Graph, cooccurrence_graph, rows_of
from fastkd.distillation._features import (
    KINDS,
    Kind,
    entities_of,
    expected_entities,
    student_rows,
    teacher_rows,
    teacher_vectors,
)
from fastkd.distillation._projectors import Draw, Projector, dense_work
from fastkd.distillation.checks import at_least, below_one, device_of, not_negative, one_of, positive
from fastkd.distillation.cost import VALUE, Cost, Shape, Work
from fastkd.distillation.entities import Reduction
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.models.protocol import Recommender, Tables
from fastkd.models.teacher import Teacher


@dataclass(frozen=True, kw_only=True)
class FreqDConfig:
    """Options of FreqD; the defaults are the published ones of gowalla.

    ``weight``: lambda, for a sum over distinct entities. ``strength``: alpha of the filter ``(1 - alpha) I + alpha
    A``. ``neighbours``: K strongest co-occurrences of an entity in the graph. ``edge_dropout``: share of the graph's
    entries left out of a step. ``order``: ``"after"``, the filter acts on what the projector makes, ``"before"``, on
    the student's vectors, which is cheaper: neighbours need no projection. ``normalize``: 1 - cosine, else squared
    distance. ``experts``, ``hidden_ratio``, ``dropout`` of the projector, whose nets are averaged. ``reduction`` over
    entities.
    """

    weight: float = 0.5
    strength: float = 0.5
    neighbours: int = 5
    edge_dropout: float = 0.5
    order: Literal["after", "before"] = "after"
    normalize: bool = True
    experts: int = 5
    hidden_ratio: float = 1.0
    dropout: float = 0.2
    reduction: Reduction = "sum"

    def __post_init__(self) -> None:
        not_negative(weight=self.weight, strength=self.strength)
        at_least(1, neighbours=self.neighbours, experts=self.experts)
        below_one(edge_dropout=self.edge_dropout, dropout=self.dropout)
        positive(hidden_ratio=self.hidden_ratio)
        one_of("order", self.order, ("after", "before"))
        one_of("reduction", self.reduction, ("sum", "mean"))

    def hidden(self, teacher_dim: int) -> int:
        """Return the hidden width of the projector's nets."""
        return max(int(teacher_dim * self.hidden_ratio), 1)


class Neighbourhood(NamedTuple):
    """Edges of one step: a CSR whose row i is that of node ``rows[i]``, or of node i where ``rows`` is None."""

    rows: Tensor | None
    graph: Graph


def _picked(x: Tensor, ids: Tensor, near: Neighbourhood) -> Tensor:
    """Return the rows of ``ids`` of what was filtered."""
    return x if near.rows is not None else functional.embedding(ids, x)


def _reads_neighbourhoods(device: torch.device) -> bool:
    return device.type == "cpu"


class FreqD(Method):
    """L = sum_{users} d + 1/2 (sum_{positive items} + sum_{negative items}) d, d = dist((H P(S))_e, (H T)_e).

    H = (1 - alpha) I + alpha A passes what varies little between neighbours. Over a whole table, with squares,
    L = sum_k (1 - alpha lambda_k)^2 |u_k^T (P(S) - T)|^2 in the Laplacian's eigenvalues and vectors. A: the symmetric
    normalised graph of each entity's strongest co-occurrences, made once; the same edges are left out for student and
    teacher. On the CPU only the batch's rows and their neighbours are read; elsewhere, where finding them would stall
    the device, the whole table is.
    """

    name: ClassVar[str] = "freqd"
    paper: ClassVar[str] = "Zhu & Zhang, KDs library"
    config_type: ClassVar[type[FreqDConfig]] = FreqDConfig
    knowledge: ClassVar[str] = "vectors"
    config: FreqDConfig

    @classmethod
    def cost(cls, config: FreqDConfig, at: Shape) -> Cost:
        """Return the cost with one negative a row, and of the walk over all paths user - item - user and back."""
        hidden, rows = config.hidden(at.teacher_dim), expected_entities(at)
        weights = config.experts * hidden * (at.dim + at.teacher_dim)
        edges = rows * 2 * config.neighbours * (1.0 - config.edge_dropout)
        reached = min(rows + edges, float(at.users + at.items)) if config.order == "after" else rows
        width = at.dim + at.teacher_dim + config.experts * hidden
        filtered = Work(2.0 * edges, VALUE * edges) * (2.0 * at.teacher_dim)
        paths = at.interactions**2 / at.items + at.interactions**2 / at.users
        graphs = 2.0 * VALUE * 3 * config.neighbours * (at.users + at.items)
        return Cost(
            step=dense_work(weights, reached, width) + filtered,
            prepare=Work(0.0, 16.0 * paths),
            every=0,
            memory=graphs + 3.0 * VALUE * 2 * weights,
        )

    def prepare(self, teacher: Teacher, student: Recommender, train: Interactions, *, epochs: int) -> None:
        """Read the teacher's vectors, find the strongest co-occurrences, make the projectors; lists are refused."""
        config, device = self.config, device_of(student)
        self._teacher = teacher_vectors(teacher, student, train)
        width = self._teacher.users.shape[1]
        seen: dict[Kind, Interactions] = {"user": train, "item": train.transpose()}
        self._graphs = {kind: self._graph(kind, seen[kind]).to(device) for kind in KINDS}
        self._projectors = nn.ModuleDict(
            {
                kind: Projector(
                    student.dim, width, config.hidden(width), self.seeds.child(f"freqd/{kind}"),
                    experts=config.experts, dropout=config.dropout,
                ).to(device)
                for kind in KINDS
            }
        )  # fmt: skip
        if config.edge_dropout == 0:
            # Then H T is the same in every step.
            users, items = (self._filtered(self._table(kind), self._whole(kind)) for kind in KINDS)
            self._teacher = Tables(users, items)

    def _graph(self, kind: Kind, seen: Interactions) -> Graph:
        def tell(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(f"finding co-occurrences of {kind}s", done, total)

        return cooccurrence_graph(seen, self.config.neighbours, tell)

    def loss(self, step: Step) -> LossParts:
        """Return weight * the distances of distinct users and items."""
        of_users, of_items = self._distance("user", step), self._distance("item", step)
        parts = {"freqd_users": of_users.detach(), "freqd_items": of_items.detach()}
        return LossParts(kd=self.config.weight * (of_users + of_items), parts=parts)

    def _distance(self, kind: Kind, step: Step) -> Tensor:
        """Return the weighted sum of distances over entities of one kind."""
        config = self.config
        ids, weights = entities_of(kind, step.batch, config.reduction)
        near = self._neighbourhood(kind, ids, step)
        guess = self._guess(kind, ids, near, step)
        if config.edge_dropout > 0:
            wanted = _picked(self._filtered(self._table(kind), near), ids, near)
        else:
            wanted = teacher_rows(kind, self._teacher, ids)
        if config.normalize:
            # In float32 at least, whatever the autocast mode.
            wide = torch.promote_types(guess.dtype, torch.float32)
            values = 1.0 - (functional.normalize(guess.to(wide)) * functional.normalize(wanted.to(wide))).sum(1)
        else:
            values = (guess - wanted).square().sum(1)
        return (values * weights).sum()

    def _guess(self, kind: Kind, ids: Tensor, near: Neighbourhood, step: Step) -> Tensor:
        """Return the student's side, Float[n, T]."""
        if near.rows is None:
            x = step.tables.users if kind == "user" else step.tables.items
            local, nodes = near, None
        else:
            # Only what the filter reads: the rows and their neighbours, each once.
            reached, places = torch.unique(torch.cat([near.rows, near.graph.neighbours]), return_inverse=True)
            x, nodes, count = student_rows(kind, step.tables, reached), reached, len(near.rows)
            local = Neighbourhood(places[:count], near.graph._replace(neighbours=places[count:]))
        projector, seeds = self._projectors[kind], self.seeds.child(f"freqd/{kind}/dropout")
        if self.config.order == "before":
            projected: Tensor = projector(_picked(self._filtered(x, local), ids, near), Draw(seeds, step.step, ids))
            return projected
        return _picked(self._filtered(projector(x, Draw(seeds, step.step, nodes)), local), ids, near)

    def _table(self, kind: Kind) -> Tensor:
        return self._teacher.users if kind == "user" else self._teacher.items

    def _filtered(self, x: Tensor, near: Neighbourhood) -> Tensor:
        return ops.graph_filter(x, *near.graph, strength=self.config.strength, rows=near.rows)

    def _whole(self, kind: Kind) -> Neighbourhood:
        return Neighbourhood(None, self._graphs[kind])

    def _neighbourhood(self, kind: Kind, ids: Tensor, step: Step) -> Neighbourhood:
        """Return this step's edges: those of ``ids``, or off the CPU all."""
        (offsets, neighbours, weights), rate = self._graphs[kind], self.config.edge_dropout
        rows, edges = (ids if _reads_neighbourhoods(ids.device) else None), None
        if rows is not None:
            offsets, edges = rows_of(self._graphs[kind], rows)
            neighbours, weights = neighbours[edges], weights[edges]
        if rate > 0:
            seed = self.seeds.child(f"freqd/{kind}/edges").root
            weights = ops.dropout(weights[:, None], rate, seed=seed, step=step.step, rows=edges)[:, 0]
            if rows is not None:
                there = weights != 0
                offsets = functional.pad(there.cumsum(0), (1, 0))[offsets]
                neighbours, weights = neighbours[there], weights[there]
        return Neighbourhood(rows, Graph(offsets, neighbours, weights))

    def optimizer_groups(self) -> list[OptimizerGroup]:
        """Return the projectors' parameters, trained at the student's rate and decay."""
        return [OptimizerGroup("freqd/projectors", list(self._projectors.parameters()))]

    def modules(self) -> dict[str, nn.Module]:
        """Return the projectors of users and items as one module."""
        return {"projectors": self._projectors}


METHODS.add(FreqD.name, FreqD)
