"""How much of a feature method's loss falls while the student stands still: what its projectors do alone.

    python benchmarks/frozen_student.py runs/ml1m        a study that ``fastkd distill`` left, with its teacher

The student's vectors are random and stay so; the method's own parameters learn for some steps of Adam. Printed: the
squared error that is left, as a share of the teacher's squared length, of users and of items in the last batch. A
method that leaves little asks little of its student.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastkd import Seeds
from fastkd.cli.runs import load_run
from fastkd.core import Interactions
from fastkd.data import Batch, open_store
from fastkd.distillation import Step, build_method
from fastkd.models import ModelConfig, ModelTeacher, Tables, build_model

METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("phr", {}),
    ("phr", {"rank": 4}),
    ("de", {"experts": 5, "anneal_epochs": 10}),
)


def main() -> None:
    """Train each method's projectors and print what is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a study's folder")
    for name, value in (("steps", 400), ("batch", 4096), ("dim", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    data = open_store(given.folder / "data")
    teacher = ModelTeacher(load_run(given.folder / "teacher", data))
    for name, options in METHODS:
        users, items = left(name, options, teacher, data.train, given)
        print(f"{name} {options}: {100 * users:.1f} % of users, {100 * items:.1f} % of items left", flush=True)


def left(
    name: str, options: dict[str, Any], teacher: ModelTeacher, train: Interactions, given: argparse.Namespace
) -> tuple[float, float]:
    """Return the shares left of users and items after the steps."""
    student = build_model(ModelConfig(dim=given.dim, init_std=0.3), train, Seeds(11))
    tables, method = student.frozen_tables(), build_method(name, options, Seeds(0))
    steps_an_epoch = -(-train.nnz // given.batch)
    method.prepare(teacher, student, train, epochs=-(-given.steps // steps_an_epoch))
    optimizer = torch.optim.Adam([p for group in method.optimizer_groups() for p in group.parameters], lr=5e-3)
    random = torch.Generator().manual_seed(0)
    users, items = (torch.from_numpy(ids).long() for ids in (train.entry_users(), train.indices))
    for step in range(given.steps):
        at = torch.randint(train.nnz, (given.batch,), generator=random)
        negatives = torch.randint(train.num_items, (given.batch, 1), generator=random)
        batch, epoch = Batch(at, users[at], items[at], negatives), step // steps_an_epoch
        method.begin_epoch(epoch, student)
        found = method.loss(Step(batch=batch, tables=tables, epoch=epoch, step=step, base_loss=_none))
        optimizer.zero_grad()
        found.kd.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    whole = _length(teacher.tables(), batch)
    return float(found.parts[f"{name}_users"]) / whole[0], float(found.parts[f"{name}_items"]) / whole[1]


def _length(tables: Tables, batch: Batch) -> tuple[float, float]:
    """Return the teacher's squared length over a batch, weighted as the methods do: users once, items half a side."""

    def squared(table: Tensor, ids: Tensor) -> float:
        return float(table[np.unique(ids)].square().sum())

    items = squared(tables.items, batch.positives) + squared(tables.items, batch.negatives)
    return squared(tables.users, batch.users), 0.5 * items


def _none(*_: Any) -> Tensor:
    return torch.zeros(())


if __name__ == "__main__":
    main()
