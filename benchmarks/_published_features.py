"""Feature distillation in plain torch, as the published programs write it: the peers of ``feature_methods.py``.

Every expert on every row, a [rows, teacher width, experts] tensor of their outputs, positives and negatives apart,
users with repeats where the programs have them, n x n matrices of cosines, projections of whole tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastkd import ops
from fastkd.data.batch import Batch
from fastkd.distillation import Method
from fastkd.distillation._experts import Experts
from fastkd.distillation._projectors import Draw
from fastkd.models import Tables

Noise = Callable[[str, Tensor], Tensor]


class Published:
    """The terms of a prepared fastkd method, whose weights and graphs are used, computed the published way."""

    def __init__(self, method: Method, teacher: Tables, temperature: float, *, same_draws: bool) -> None:
        self.method: Any = method
        self.teacher, self.temperature, self.same_draws = teacher, temperature, same_draws

    def loss(self, tables: Tables, batch: Batch, noise: Noise, kept_noise: Noise) -> Tensor:
        """Return the weighted term; ``noise`` gives the Gumbel rows of entities, ``kept_noise`` those of PCKD's R."""
        found: Tensor = getattr(self, self.method.name)(tables, batch, noise, kept_noise)
        return found * float(self.method.config.weight)

    # -- experts ------------------------------------------------------------------------------------------

    def mixture(self, kind: str, student: Tensor, teacher: Tensor, noise: Tensor) -> Tensor:
        """Return all experts' outputs, stacked, times their gates, repeated to the teacher's width."""
        experts: Experts = self.method._experts[kind]
        alpha = torch.softmax(functional.linear(teacher, experts.selection, experts.selection_bias), 1)
        gates = torch.softmax((torch.log(alpha + 1e-10) + noise) / self.temperature, -1)
        repeated = gates.unsqueeze(1).repeat(1, teacher.shape[1], 1)
        parts = zip(experts.w1, experts.b1, experts.w2, experts.b2, strict=True)
        outputs = [(torch.relu(functional.linear(student, a, b)) @ c + d).unsqueeze(-1) for a, b, c, d in parts]
        return (torch.cat(outputs, -1) * repeated).sum(2)

    def error(self, kind: str, ids: Tensor, tables: Tables, noise: Noise) -> Tensor:
        """Return the squared error of the distinct entities among ``ids``."""
        ids = torch.unique(ids)
        student, teacher = (getattr(side, f"{kind}s")[ids] for side in (tables, self.teacher))
        error: Tensor = ((teacher - self.mixture(kind, student, teacher, noise(kind, ids))) ** 2).sum(-1).sum()
        return error

    def de(self, tables: Tables, batch: Batch, noise: Noise, _: Noise) -> Tensor:
        """Return DE."""
        of_items = self.error("item", batch.positives, tables, noise) + self.error(
            "item", batch.negatives, tables, noise
        )
        return self.error("user", batch.users, tables, noise) + 0.5 * of_items

    # -- topologies ---------------------------------------------------------------------------------------

    def joined(self, tables: Tables, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return distinct users and items, and the vectors of both."""
        users, items = torch.unique(batch.users), torch.unique(torch.cat([batch.positives, batch.negatives.flatten()]))
        student, teacher = (torch.cat([side.users[users], side.items[items]]) for side in (tables, self.teacher))
        return users, items, student, teacher

    def ftd(self, tables: Tables, batch: Batch, *_: Noise) -> Tensor:
        """Return FTD from two n x n matrices."""
        *_ids, student, teacher = self.joined(tables, batch)
        return (cosines(teacher, teacher) - cosines(student, student)).square().sum()

    def htd(self, tables: Tables, batch: Batch, noise: Noise, _: Noise) -> Tensor:
        """Return HTD; masks as the method's options say."""
        users, items, student, teacher = self.joined(tables, batch)
        regression = self.error("user", users, tables, noise) + self.error("item", items, tables, noise)
        experts, config = self.method._experts, self.method.config
        chosen = [experts[k].groups(t) for k, t in (("user", teacher[: len(users)]), ("item", teacher[len(users) :]))]
        groups = torch.cat([chosen[0], chosen[1] + config.experts])
        one_hot = functional.one_hot(groups, 2 * config.experts).float()
        one_hot = one_hot[:, one_hot.sum(0) > 0]
        wanted, found = cosines(teacher, teacher), cosines(student, student)
        mask = one_hot @ one_hot.T
        if config.pairs == "code":
            mask = mask * (wanted > 0)
        entity = (wanted[mask > 0] - found[mask > 0]).square().sum()
        sizes = one_hot.sum(0).unsqueeze(1)
        prototypes = [(one_hot.T @ x / sizes).detach() for x in (teacher, student)]
        gap = cosines(prototypes[0], teacher) - cosines(prototypes[1], student)
        group = (gap.square() * (1 - one_hot.T if config.pairs == "paper" else 1.0)).sum()
        total: Tensor = config.gamma * (group + entity) + (1 - config.gamma) * regression
        return total

    # -- preferences --------------------------------------------------------------------------------------

    def pckd(self, tables: Tables, batch: Batch, noise: Noise, kept_noise: Noise) -> Tensor:
        """Return PCKD with the list regulariser: every row and every listed item of it is projected."""
        config, users = self.method.config, batch.users
        items = self.method._lists[users].long().flatten()
        rows = {}
        for kind, ids in (("user", users), ("item", items)):
            student, teacher = (getattr(side, f"{kind}s")[ids] for side in (tables, self.teacher))
            rows[kind] = student.detach(), self.mixture(kind, student.detach(), teacher, kept_noise(kind, ids))
        before, behind = (
            (u.unsqueeze(1) * i.view(len(u), -1, i.shape[1])).sum(2) / config.list_temperature
            for u, i in zip(rows["user"], rows["item"], strict=True)
        )
        kept = -(torch.softmax(before, 1) * torch.log_softmax(behind, 1)).sum()
        return self.de(tables, batch, noise, noise) + float(config.alpha) * kept

    # -- projectors ---------------------------------------------------------------------------------------

    def phr(self, tables: Tables, batch: Batch, *_: Noise) -> Tensor:
        """Return PHR with a stored map per entity, over rows that repeat no entity."""
        users, items, *_rest = self.joined(tables, batch)
        total = tables.users.new_zeros(())
        for kind, ids in (("user", users), ("item", items)):
            network, context = self.method._networks[kind], getattr(self.method._contexts, f"{kind}s")[ids]
            student, teacher = (getattr(side, f"{kind}s")[ids] for side in (tables, self.teacher))
            hidden = torch.relu(functional.linear(context, network.w1, network.b1))
            maps = functional.linear(hidden, network.w2, network.b2).view(len(ids), -1, student.shape[1])
            total = total + (teacher - torch.bmm(maps, student.unsqueeze(2)).squeeze(2)).square().sum()
        return total

    def freqd(self, tables: Tables, batch: Batch, *_: Noise) -> Tensor:
        """Return FreqD, projecting and filtering both tables whole."""
        config, total = self.method.config, tables.users.new_zeros(())
        sets = (("user", (batch.users,), 1.0), ("item", (batch.positives, batch.negatives), 0.5))
        for kind, groups, factor in sets:
            graph, teacher = self.method._graphs[kind], getattr(self.teacher, f"{kind}s")
            weights = self.thinned(kind, graph.weights, config.edge_dropout)
            adjacency = torch.sparse_csr_tensor(graph.offsets, graph.neighbours, weights, (len(teacher),) * 2)
            projected = self.projected(kind, getattr(tables, f"{kind}s"))
            sides = [(1 - config.strength) * x + config.strength * (adjacency @ x) for x in (projected, teacher)]
            for ids in map(torch.unique, groups):
                found, wanted = (functional.normalize(x[ids]) for x in sides)
                total = total + factor * (1.0 - (found * wanted).sum(1)).sum()
        return total

    def thinned(self, kind: str, weights: Tensor, rate: float) -> Tensor:
        """Return the graph's weights without a share ``rate`` of them."""
        if self.same_draws:
            seed = self.method.seeds.child(f"freqd/{kind}/edges").root
            return ops.dropout(weights[:, None], rate, seed=seed, step=0)[:, 0]
        return weights * torch.bernoulli(torch.full_like(weights, 1.0 - rate)) / (1.0 - rate)

    def projected(self, kind: str, x: Tensor) -> Tensor:
        """Return the mean of a projector's nets, Dropout - Linear - ReLU - Dropout - Linear each."""
        nets, outputs = self.method._projectors[kind], []
        draw = Draw(self.method.seeds.child(f"freqd/{kind}/dropout"), 0, None)
        wide = nets.w1.shape[0] * nets.w1.shape[1]
        kept = draw.dropout(torch.ones(len(x), wide), nets.dropout, "hidden") if self.same_draws else None
        for i, (w1, b1, w2, b2) in enumerate(zip(nets.w1, nets.b1, nets.w2, nets.b2, strict=True)):
            own = draw.dropout(x, nets.dropout, f"{i}/in") if self.same_draws else functional.dropout(x, nets.dropout)
            hidden = torch.relu(functional.linear(own, w1, b1))
            if kept is None:
                hidden = functional.dropout(hidden, nets.dropout)
            else:
                hidden = hidden * kept[:, i * len(w1) : (i + 1) * len(w1)]
            outputs.append(functional.linear(hidden, w2, b2))
        return torch.stack(outputs).mean(0)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines of all rows with all rows."""
    return functional.normalize(a) @ functional.normalize(b).T
