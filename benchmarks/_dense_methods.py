"""The methods on users x items tensors, as one writes them in torch: what ``methods.py`` measures against."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastkd.core import Seeds
from fastkd.core.interactions import Interactions
from fastkd.data.batch import Batch
from fastkd.distillation import Method
from fastkd.models import Recommender, Tables, Teacher

ROWS = 1024
"""Rows argsorted at a time: all at once would be gigabytes of int64."""

Lists = tuple[Tensor, ...]


class Dense:
    """The same methods on users x items tensors."""

    def __init__(self, train: Interactions, teacher: Teacher, student: Recommender, method: Method) -> None:
        self.teacher, self.student, self.method, self.train = teacher.tables(), student, method, train
        self.states = [state.tables() for state in teacher.checkpoints]
        self.turned: Tensor | None = None
        self.seen = torch.zeros(train.num_users, train.num_items, dtype=torch.bool)
        users = torch.from_numpy(np.asarray(train.entry_users(), dtype=np.int64))
        self.seen[users, torch.from_numpy(np.asarray(train.indices, dtype=np.int64))] = True
        self.random = Seeds(0).torch("peer")

    def scores(self) -> Tensor:
        """Return the student's users x items scores."""
        tables = self.student.frozen_tables()
        return tables.users @ tables.items.T

    def draw(self, weights: Tensor, n: int, *, replacement: bool = False) -> Tensor:
        """Return n columns of each row by weight."""
        return torch.multinomial(weights, n, replacement=replacement, generator=self.random)

    def refresh_rrd(self, top: Tensor) -> Lists:
        """Draw both lists: K of the teacher's M, L by a users x items mask."""
        decay = torch.exp(-torch.arange(1, 501) / 10.0).expand(len(top), -1)
        ranked = top.gather(1, self.draw(decay, 100).sort(dim=1).values)
        mask = (~self.seen).float().scatter_(1, top, 0.0)
        return ranked, self.draw(mask, 200)

    def refresh_kd_ce(self, top: Tensor) -> Lists:
        """Rank by the student, score by the teacher."""
        ids = self.scores().topk(100, dim=1).indices
        return ids, (self.teacher.users @ self.teacher.items.T).gather(1, ids)

    def refresh_rd(self, top: Tensor) -> Lists:
        """Draw the dynamic samples of every user by a users x items mask."""
        return top[:, :30], self.draw((~self.seen).float(), 100, replacement=True)

    def refresh_cd(self, top: Tensor) -> Lists:
        """Take the better of two draws from the student's best 3000, n times; score by the teacher."""
        best = self.scores().masked_fill_(self.seen, -1e6).topk(3000, dim=1).indices
        weights = torch.exp(-torch.arange(1, 3001) / 3000 / 20.0).expand(len(best), -1)
        first, second = (self.draw(weights, 50, replacement=True) for _ in range(2))
        ids = best.gather(1, torch.minimum(first, second))
        return ids, (self.teacher.users @ self.teacher.items.T).gather(1, ids)

    def refresh_rce_kd(self, top: Tensor) -> Lists:
        """Rank by the student; place the teacher's items in its list by a users x K x M comparison."""
        best = self.scores().topk(500, dim=1).indices
        wanted = top[:, :100]
        placed = (wanted.unsqueeze(2) == best.unsqueeze(1)).any(1).float()
        ahead = placed.flip(1).cumsum(1).flip(1).clamp(max=50)
        drawn = best.gather(1, self.draw(torch.exp((ahead + 1) / 10), 100).sort(dim=1).values)
        scores = self.teacher.users @ self.teacher.items.T
        mixed = torch.cat([drawn, wanted], 1)
        return best[:, :100], mixed, scores.gather(1, best[:, :100]), scores.gather(1, mixed)

    def refresh_ir_rrd(self, top: Tensor) -> Lists:
        """Draw the lists of users, and those of items by an items x users mask."""
        if self.turned is None:
            scores = (self.teacher.items @ self.teacher.users.T).masked_fill_(self.seen.T, -torch.inf)
            self.turned = scores.topk(500, dim=1).indices
        found: list[Tensor] = []
        for best, seen, count in ((top, self.seen, 40), (self.turned, self.seen.T, 20)):
            decay = torch.exp(-torch.arange(1, 501) / 10.0).expand(len(best), -1)
            found.append(best.gather(1, self.draw(decay, count).sort(dim=1).values))
            found.append(self.draw((~seen).float().scatter_(1, best, 0.0), count))
        return tuple(found)

    def refresh_dcd(self, top: Tensor) -> Lists:
        """Rank everything by the student with two argsorts; draw twice from the teacher's list."""
        places, ranks = torch.arange(1, 501), torch.empty(len(top), 500)
        scores = self.scores().masked_fill_(self.seen, -torch.inf)
        for rows in torch.split(torch.arange(len(top)), ROWS):
            order = scores[rows].argsort(dim=1, descending=True).argsort(dim=1)
            ranks[rows] = (order.gather(1, top[rows]) + 1).float()
        under, over = (torch.tanh((sign * (ranks - places) / 10).clamp(min=0)).clamp(min=1e-5) for sign in (1, -1))
        return top.gather(1, self.draw(under, 100).sort(dim=1).values), top.gather(1, self.draw(over, 100))

    def refresh_unkd(self, top: Tensor) -> Lists:
        """Draw pairs of places in the lists of each popularity group, all again until no pair is one place twice."""
        better, worse = [], []
        for lists, pairs in zip(self.method._lists, self.method._drawn, strict=True):  # type: ignore[attr-defined]
            decay = torch.exp(-torch.arange(1, lists.shape[1] + 1) / 20.0).expand(len(lists), -1)
            first, second = (self.draw(decay, pairs, replacement=True) for _ in range(2))
            while bool((same := first == second).any()):
                rows = same.any(1).nonzero().flatten()
                for places in (first, second):
                    places[rows] = torch.where(
                        same[rows], self.draw(decay[rows], pairs, replacement=True), places[rows]
                    )
            better.append(lists.long().gather(1, torch.minimum(first, second)))
            worse.append(lists.long().gather(1, torch.maximum(first, second)))
        return torch.cat(better, 1), torch.cat(worse, 1)

    def refresh_hetcomp(self, top: Tensor) -> Lists:
        """Compare the student with every state; rank by the users x items importances of the states in use."""
        best = self.scores().masked_fill_(self.seen, -torch.inf).topk(50, dim=1).indices
        gain = torch.exp2(torch.exp(-torch.arange(50) / 10)) - 1
        for state in self.states:
            target = (state.users @ state.items.T).masked_fill_(self.seen, -torch.inf).topk(50, dim=1).indices
            (best.unsqueeze(2) == target.unsqueeze(1)).any(2).float() @ gain
        targets = torch.empty(len(best), 100, dtype=torch.int64)
        for rows in torch.split(torch.arange(len(best)), ROWS):
            scores = (self.teacher.users[rows] @ self.teacher.items.T).masked_fill_(self.seen[rows], -torch.inf)
            importance = torch.exp(-scores.argsort(dim=1, descending=True).argsort(dim=1) / 10.0)
            targets[rows] = importance.argsort(dim=1, descending=True)[:, :100]
        return (targets,)

    def refresh_bd(self, top: Tensor) -> Lists:
        """Rank everything by both models; draw an item for each entry and epoch of ten, for either learner."""
        degrees, drawn = np.diff(self.train.indptr), ([], [])  # type: ignore[var-annotated]
        for rows in torch.split(torch.arange(len(top)), ROWS):
            ranks = []
            for scores in (self.scores()[rows], self.teacher.users[rows] @ self.teacher.items.T):
                scores.masked_fill_(self.seen[rows], -torch.inf)
                ranks.append(scores.argsort(dim=1, descending=True).argsort(dim=1))
            gap = (ranks[0] - ranks[1]).float()
            to_student = torch.tanh((gap * 1e-2).clamp(min=0)).masked_fill_(self.seen[rows], 0.0)
            to_teacher = torch.exp(-gap * 1e-4).masked_fill_(self.seen[rows], 0.0)
            most = int(degrees[rows.numpy()].max())
            kept = torch.arange(most) < torch.from_numpy(degrees[rows.numpy()]).unsqueeze(1)
            for out, weights in zip(drawn, (to_student, to_teacher), strict=True):
                out.append(self.draw(weights, 10 * most, replacement=True).view(-1, most, 10)[kept])
        return torch.cat(drawn[0])[:, 0], torch.cat(drawn[1])[:, 0]

    def step(self, name: str, batch: Batch, lists: Lists) -> Tensor:
        """Return the loss of a batch from the lists of :meth:`refresh`."""
        tables, users = self.student.tables(), batch.users
        vectors = tables.users[users]

        def score(ids: Tensor) -> Tensor:
            return (vectors.unsqueeze(1) * tables.items[ids[users]]).sum(2)

        def cross_entropy(ids: Tensor, teacher: Tensor) -> Tensor:
            return -(torch.softmax(teacher[users], 1) * torch.log_softmax(score(ids), 1)).sum()

        if name in ("rrd", "dcd"):
            return relaxed(score(lists[0]), score(lists[1]))
        if name == "ir_rrd":
            items = torch.unique(torch.cat([lists[0][users], lists[1][users]], 1))
            by_users = [(tables.items[items].unsqueeze(1) * tables.users[ids[items]]).sum(2) for ids in lists[2:]]
            return relaxed(score(lists[0]), score(lists[1])) + relaxed(*by_users)
        if name == "bd":
            return self.both_ways(tables, batch, lists)
        if name == "de":
            items, people = torch.unique(torch.cat([batch.positives, batch.negatives.reshape(-1)])), torch.unique(users)
            of_users = self.mixture_error(tables.users[people], self.teacher.users[people])
            return of_users + 0.5 * self.mixture_error(tables.items[items], self.teacher.items[items])
        if name == "unkd":
            return -functional.logsigmoid(score(lists[0]) - score(lists[1])).mean(1).sum()
        if name == "hetcomp":
            scores = vectors @ tables.items.T
            targets = lists[0][users]
            hidden = self.seen[users].scatter(1, targets, True)
            others = scores.masked_fill(hidden, -torch.inf).logsumexp(1, keepdim=True)
            wanted = torch.cat([scores.gather(1, targets), scores[:, :10]], 1)
            return functional.softplus(others - wanted).sum()
        if name == "kd_ce":
            return cross_entropy(*lists)
        if name == "cd":
            given = torch.sigmoid(lists[1][users] / 2)
            return functional.binary_cross_entropy_with_logits(score(lists[0]), given, reduction="sum")
        if name == "rce_kd":
            return cross_entropy(lists[0], lists[2]) + cross_entropy(lists[1], lists[3])
        listed, others = score(lists[0]), score(lists[1]).detach()
        ranks = (others.unsqueeze(1) > listed.detach().unsqueeze(2)).sum(2) * (len(tables.items) - 1) // 100 + 1
        places = torch.arange(1, 31)
        weights = functional.normalize(
            torch.exp(-places.float()) * torch.tanh(0.1 * (ranks - places).clamp(min=0)), p=1
        )
        return -(weights * functional.logsigmoid(listed)).sum()

    def both_ways(self, student: Tables, batch: Batch, lists: Lists) -> Tensor:
        """Return what each of two models in training learns from the other's scores of drawn items."""
        teacher = Tables(self.teacher.users.requires_grad_(), self.teacher.items.requires_grad_())
        total = student.users.new_zeros(())
        for learner, giver, ids in ((student, teacher, lists[0]), (teacher, student, lists[1])):
            items, users = ids[batch.entries], batch.users
            mine, given = ((side.users[users] * side.items[items]).sum(1) for side in (learner, giver))
            target = torch.sigmoid(given.detach() / 5)
            total = total + functional.binary_cross_entropy_with_logits(mine, target, reduction="sum")
        return total

    def mixture_error(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the squared error of five experts, all evaluated, mixed by a softmax of the teacher's vector."""
        narrow, wide = student.shape[1], teacher.shape[1]
        hidden = (narrow + wide) // 2
        first, second, route = (
            torch.full(shape, 0.01, requires_grad=True) for shape in ((5, narrow, hidden), (5, hidden, wide), (wide, 5))
        )
        outputs = torch.relu(student.expand(5, -1, -1) @ first) @ second
        gates = torch.softmax(teacher @ route, 1)
        return (teacher - torch.einsum("end,ne->nd", outputs, gates)).square().sum()


def relaxed(ranked: Tensor, unranked: Tensor) -> Tensor:
    """Return the relaxed Plackett-Luce loss of scores, without the shift that keeps it from overflowing."""
    both, count = torch.cat([ranked, unranked], 1), ranked.shape[1]
    below = both.flip(1).exp().cumsum(1).flip(1)[:, :count].log()
    return (below - both[:, :count]).sum()
