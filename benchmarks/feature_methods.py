"""A step of every method that matches vectors, beside the published way to write it, on the same weights and inputs.

    python -m benchmarks.feature_methods --method de                       CiteULike's shape: 20 and 400 wide, 2048 rows
    python -m benchmarks.feature_methods --method pckd --out benchmarks/results/feature_methods.json

A step is the distillation term forward and backward, to both tables and all experts. Where a temperature hardens the
choice between experts, steps are timed along the schedule and the figure that counts is their mean over a training of
1000 epochs; the published way takes the same time at every temperature. Losses and gradients of both ways are compared
before anything is timed, with one draw of noise; at a temperature under which routing is hard too.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._published_features import Published
from benchmarks.methods import interactions, milliseconds
from fastkd.core import Seeds
from fastkd.core.capability import cpu_count
from fastkd.core.files import write_text
from fastkd.data.batch import Batch
from fastkd.distillation import Step, build_method
from fastkd.distillation._features import entities_of, members_of
from fastkd.distillation._sides import listed
from fastkd.distillation.entities import counted_rows
from fastkd.models import EmbeddingTeacher, ModelConfig, Tables, build_model

OPTIONS: dict[str, dict[str, Any]] = {
    "de": {"experts": 30},
    "htd": {"experts": 30, "pairs": "code"},
    "pckd": {"experts": 30, "guide": "teacher"},
    "ftd": {},
    "phr": {},
    "freqd": {},
}
ROUTED = ("de", "htd", "pckd")
EPOCHS = 1000
POINTS = (0, 25, 50, 75, 100, 150, 200, 300, 400)
"""Epochs timed of a schedule from 1 to 1e-10 over 1000; from the last one on routing is hard."""


class Case:
    """A prepared method, its student, and a batch."""

    def __init__(self, given: argparse.Namespace) -> None:
        random, noise = Seeds(0).numpy("benchmark"), Seeds(0).torch("benchmark")
        self.train = interactions(given.users, given.items, random)
        tables = [torch.randn(n, given.teacher_dim, generator=noise) for n in (given.users, given.items)]
        self.teacher = Tables(tables[0], tables[1])
        self.student = build_model(ModelConfig(dim=given.dim, init_std=0.3), self.train, Seeds(1))
        self.method = build_method(given.method, OPTIONS[given.method], Seeds(0))
        self.method.prepare(
            EmbeddingTeacher(self.teacher.users, self.teacher.items), self.student, self.train, epochs=EPOCHS
        )
        self.method.begin_epoch(0, self.student)
        entries = torch.from_numpy(random.permutation(self.train.nnz)[: given.batch])
        columns = (self.train.entry_users(), self.train.indices)
        users, positives = (torch.from_numpy(np.asarray(a, dtype=np.int64))[entries] for a in columns)
        negatives = torch.from_numpy(random.integers(0, given.items, (given.batch, 1)))
        self.batch = Batch(entries, users, positives, negatives)

    def ours(self, epoch: int) -> Tensor:
        """Return fastkd's term."""
        step = Step(self.batch, self.student.tables(), epoch, 0, lambda *_: torch.zeros(()))
        return self.method.loss(step).kd

    def theirs(self, epoch: int, *, same_noise: bool) -> Tensor:
        """Return the published way's term."""
        routed = self.method.name in ROUTED
        temperature = self.method.config.temperature(epoch, EPOCHS) if routed else 1.0
        peer = Published(self.method, self.teacher, temperature, same_draws=same_noise)
        noises = [self.same_noise(call) if same_noise and routed else self.fresh_noise for call in ("", "/kept")]
        return peer.loss(self.student.tables(), self.batch, *noises)

    def fresh_noise(self, _: str, ids: Tensor) -> Tensor:
        """Return new Gumbel noise for each row."""
        return -torch.empty(len(ids), self.method.config.experts).exponential_().log()

    def same_noise(self, call: str) -> Any:
        """Return what gives each entity the noise that fastkd's step gives it."""
        method: Any = self.method
        held = {}
        for kind, size in (("user", self.train.num_users), ("item", self.train.num_items)):
            if call == "/kept" and method.name == "pckd":
                users = counted_rows(self.batch.users).ids
                ids = users if kind == "user" else listed([method._lists[users].long()]).ids
            else:
                ids = (members_of if method.name == "htd" else entities_of)(kind, self.batch, "sum").ids  # type: ignore[arg-type]
            table = torch.zeros(size, method.config.experts)
            table[ids] = method._experts.noise(kind, 0, ids, call)
            held[kind] = table
        return lambda kind, ids: held[kind][ids]

    def gradients(self, loss: Tensor) -> tuple[float, list[Tensor]]:
        """Return the loss and the gradients of tables and trained modules, and drop them."""
        loss.backward()  # type: ignore[no-untyped-call]
        found = []
        for module in (self.student, *self.method.modules().values()):
            for parameter in module.parameters():
                found.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
                parameter.grad = None
        return float(loss.detach()), found


def compare(case: Case, epoch: int) -> float:
    """Return the largest relative difference of loss and gradients between the two ways."""
    mine, theirs = case.gradients(case.ours(epoch)), case.gradients(case.theirs(epoch, same_noise=True))
    gaps = [abs(mine[0] - theirs[0]) / abs(theirs[0])]
    for a, b in zip(mine[1], theirs[1], strict=True):
        gaps.append(float((a - b).norm() / b.norm().clamp(min=1e-6)))
    return max(gaps)


def mean_of_training(at: dict[int, float]) -> float:
    """Return the mean over all epochs, straight lines between those that were timed."""
    epochs = sorted(at)
    return float(np.interp(np.arange(EPOCHS), epochs, [at[e] for e in epochs]).mean())


def main() -> None:
    """Read the arguments, compare, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=tuple(OPTIONS), default="de")
    for name, value in (("users", 5219), ("items", 25187), ("dim", 20), ("teacher-dim", 400), ("batch", 2048)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-check", action="store_true", help="leave out the comparison of results")
    parser.add_argument("--out", type=Path, metavar="FILE", help="add the figures to this JSON file")
    given = parser.parse_args()
    case = Case(given)
    routed = given.method in ROUTED
    points = POINTS if routed else (0,)
    record: dict[str, Any] = {}
    if not given.no_check:
        record["largest_difference"] = max(compare(case, epoch) for epoch in ((0, 150, 900) if routed else (0,)))
    times = {e: milliseconds(lambda e=e: case.gradients(case.ours(e)), given.repeats) for e in points}  # type: ignore[misc]
    peer = milliseconds(lambda: case.gradients(case.theirs(0, same_noise=False)), max(1, given.repeats - 1))
    mean = mean_of_training(times) if routed else times[0]
    record |= {"fastkd": mean, "published": peer, "ratio": peer / mean}
    if routed:
        record |= {"first_epoch_ratio": peer / times[0], "hard_ratio": peer / times[POINTS[-1]]}
        record["by_epoch"] = {str(e): t for e, t in times.items()}
    print(
        f"{given.method} {OPTIONS[given.method]}, {case.train!r}, {given.batch} rows, {given.dim} / {given.teacher_dim}"
    )
    print(json.dumps(record, indent=1))
    if given.out is not None:
        keep(given, record)


def keep(given: argparse.Namespace, record: dict[str, Any]) -> None:
    """Add a method's figures, in milliseconds, to the results; those of the same shape are replaced."""
    shape = {name: getattr(given, name) for name in ("users", "items", "dim", "teacher_dim", "batch")}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    machine = {"machine": platform.machine(), "cores": cpu_count(), "threads": torch.get_num_threads()}
    entry = {"method": given.method, "options": OPTIONS[given.method], **shape, "date": str(date.today()), **machine}
    rounded = json.loads(json.dumps({**entry, "versions": versions, "ms": record}), parse_float=_rounded)
    held = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    others = [old for old in held if any(old[name] != rounded[name] for name in ("method", *shape))]
    write_text(given.out, json.dumps(sorted([*others, rounded], key=lambda e: str(e["method"])), indent=1) + "\n")


def _rounded(text: str) -> float:
    value = float(text)
    return round(value, 2) if abs(value) >= 0.01 else float(f"{value:.2g}") if math.isfinite(value) else value


if __name__ == "__main__":
    main()
