"""What a method does each epoch and each step, against the dense way to write it in torch, on the same inputs.

    python benchmarks/methods.py --method cd                       CiteULike's shape: 5,219 x 25,187, 20 and 400 wide
    python benchmarks/methods.py --method cd --users 4096 --items 1000000 --no-peer

``refresh``: the lists and draws of an epoch. ``step``: the distillation term of a batch forward and backward, to both
tables. Peers hold what the published programs hold: the users x items score matrix or mask, ``torch.multinomial`` over
it, and in a step a [rows, columns, width] gather. They are vectorised where those loop over users, so they are faster
than what was published. Inputs are random normal; a peer draws from the same distribution, not the same items.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fastkd.core import Seeds
from fastkd.core.capability import cpu_count, version_of
from fastkd.core.interactions import Interactions
from fastkd.data.batch import Batch
from fastkd.distillation import Method, Step, build_method
from fastkd.models import EmbeddingTeacher, ModelConfig, Recommender, build_model

OPTIONS: dict[str, dict[str, Any]] = {
    "rrd": {"ranked": 100, "unranked": 200, "top": 500},
    "kd_ce": {"guide": "student", "listed": 100},
    "rd": {"listed": 30, "samples": 100, "start_epoch": 0},
    "cd": {"guide": "student", "drawn": 50, "top": 3000},
    "rce_kd": {"listed": 100, "drawn": 100, "top": 500},
}
SEEN = 19


class Dense:
    """The same methods on users x items tensors."""

    def __init__(self, train: Interactions, teacher: EmbeddingTeacher, student: Recommender) -> None:
        self.teacher, self.student = teacher.tables(), student
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

    def refresh_rrd(self, top: Tensor) -> tuple[Tensor, ...]:
        """Draw both lists: K of the teacher's M, L by a users x items mask."""
        decay = torch.exp(-torch.arange(1, 501) / 10.0).expand(len(top), -1)
        ranked = top.gather(1, self.draw(decay, 100).sort(dim=1).values)
        mask = (~self.seen).float().scatter_(1, top, 0.0)
        return ranked, self.draw(mask, 200)

    def refresh_kd_ce(self, top: Tensor) -> tuple[Tensor, ...]:
        """Rank by the student, score by the teacher."""
        ids = self.scores().topk(100, dim=1).indices
        return ids, (self.teacher.users @ self.teacher.items.T).gather(1, ids)

    def refresh_rd(self, top: Tensor) -> tuple[Tensor, ...]:
        """Draw the dynamic samples of every user by a users x items mask."""
        return top[:, :30], self.draw((~self.seen).float(), 100, replacement=True)

    def refresh_cd(self, top: Tensor) -> tuple[Tensor, ...]:
        """Take the better of two draws from the student's best 3000, n times; score by the teacher."""
        best = self.scores().masked_fill_(self.seen, -1e6).topk(3000, dim=1).indices
        weights = torch.exp(-torch.arange(1, 3001) / 3000 / 20.0).expand(len(best), -1)
        first, second = (self.draw(weights, 50, replacement=True) for _ in range(2))
        ids = best.gather(1, torch.minimum(first, second))
        return ids, (self.teacher.users @ self.teacher.items.T).gather(1, ids)

    def refresh_rce_kd(self, top: Tensor) -> tuple[Tensor, ...]:
        """Rank by the student; place the teacher's items in its list by a users x K x M comparison."""
        best = self.scores().topk(500, dim=1).indices
        wanted = top[:, :100]
        placed = (wanted.unsqueeze(2) == best.unsqueeze(1)).any(1).float()
        ahead = placed.flip(1).cumsum(1).flip(1).clamp(max=50)
        drawn = best.gather(1, self.draw(torch.exp((ahead + 1) / 10), 100).sort(dim=1).values)
        scores = self.teacher.users @ self.teacher.items.T
        mixed = torch.cat([drawn, wanted], 1)
        return best[:, :100], mixed, scores.gather(1, best[:, :100]), scores.gather(1, mixed)

    def step(self, name: str, users: Tensor, lists: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of a batch from the lists of :meth:`refresh`."""
        tables = self.student.tables()
        vectors = tables.users[users]

        def score(ids: Tensor) -> Tensor:
            return (vectors.unsqueeze(1) * tables.items[ids[users]]).sum(2)

        def cross_entropy(ids: Tensor, teacher: Tensor) -> Tensor:
            return -(torch.softmax(teacher[users], 1) * torch.log_softmax(score(ids), 1)).sum()

        if name == "rrd":
            both = torch.cat([score(lists[0]), score(lists[1])], 1)
            below = both.flip(1).exp().cumsum(1).flip(1)[:, :100].log()
            return (below - both[:, :100]).sum()
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


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        spent.append(1e3 * (time.perf_counter() - start))
    return statistics.median(spent)


def backward(student: Recommender, loss: Tensor) -> None:
    """Make the gradients and drop them."""
    loss.backward()  # type: ignore[no-untyped-call]
    for parameter in student.parameters():
        parameter.grad = None


def one_step(method: Method, student: Recommender, batch: Batch) -> None:
    """Run a method's term forward and backward."""
    step = Step(batch=batch, tables=student.tables(), epoch=0, step=0, base_loss=lambda *_: torch.zeros(()))
    backward(student, method.loss(step).kd)


def interactions(users: int, items: int, random: np.random.Generator) -> Interactions:
    """Return random interactions, about ``SEEN`` a user."""
    rows = np.repeat(np.arange(users), SEEN)
    return Interactions.from_pairs(
        rows, random.integers(0, items, len(rows)), num_users=users, num_items=items, duplicates="merge"
    )


def main() -> None:
    """Read the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=tuple(OPTIONS), default="cd")
    for name, value in (("users", 5219), ("items", 25187), ("dim", 20), ("teacher-dim", 400), ("batch", 2048)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true", help="leave out the dense forms")
    given = parser.parse_args()
    random, noise = Seeds(0).numpy("benchmark"), Seeds(0).torch("benchmark")
    train = interactions(given.users, given.items, random)
    teacher = EmbeddingTeacher(
        torch.randn(given.users, given.teacher_dim, generator=noise),
        torch.randn(given.items, given.teacher_dim, generator=noise),
    )
    student = build_model(ModelConfig(dim=given.dim, init_std=0.3), train, Seeds(1))
    method = build_method(given.method, OPTIONS[given.method], Seeds(0))
    prepared = milliseconds(lambda: method.prepare(teacher, student, train, epochs=100), 1)
    entries = torch.from_numpy(random.permutation(train.nnz)[: given.batch])
    users, positives = (torch.from_numpy(np.asarray(a, dtype=np.int64)) for a in (train.entry_users(), train.indices))
    batch = Batch(entries, users[entries], positives[entries], positives[entries][:, None])
    method.begin_epoch(0, student)
    one_step(method, student, batch)
    epochs = iter(range(1, 100))
    refresh = milliseconds(lambda: method.begin_epoch(next(epochs), student), given.repeats)
    step = milliseconds(lambda: one_step(method, student, batch), 4 * given.repeats)
    print(f"{given.method} {OPTIONS[given.method]}, {train!r}")
    print(f"student {given.dim} wide, teacher {given.teacher_dim}, {given.batch} rows a step")
    print(f"{platform.machine()}, {cpu_count()} cores, torch {torch.__version__}, numba {version_of('numba')}")
    steps = -(-train.nnz // given.batch)

    def show(who: str, refreshed: float, stepped: float) -> None:
        epoch = refreshed + steps * stepped
        print(f"{who:7} refresh {refreshed:9.1f} ms   step {stepped:8.2f} ms   epoch of {steps} steps {epoch:9.1f} ms")

    print(f"prepare, once: {prepared:.1f} ms")
    show("fastkd", refresh, step)
    if given.no_peer:
        return
    dense = Dense(train, teacher, student)
    top = teacher.lists(500, train).ids
    make = getattr(dense, f"refresh_{given.method}")
    lists = make(top)
    peer_refresh = milliseconds(lambda: make(top), 2)
    peer_step = milliseconds(lambda: backward(student, dense.step(given.method, batch.users, lists)), 3)
    show("torch", peer_refresh, peer_step)
    epochs_apart = (peer_refresh + steps * peer_step) / (refresh + steps * step)
    # RD draws within its steps, so its refresh takes nothing.
    parts = f"refresh {peer_refresh / refresh:.1f}, " if refresh > 0.1 else ""
    print(f"ratio   {parts}step {peer_step / step:.1f}, epoch {epochs_apart:.1f}")


if __name__ == "__main__":
    main()
