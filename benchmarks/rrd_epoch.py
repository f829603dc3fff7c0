"""One epoch of RRD, taken apart: list preparation, refresh, negatives, all steps.

    python benchmarks/rrd_epoch.py                      # a synthetic set of CiteULike's size
    python benchmarks/rrd_epoch.py --data FILE.parquet  # CiteULike itself (column ``split``)

Prints seconds, median of the epochs after the first (which compiles). The teacher is a random pair of tables of the
published width: RRD's cost depends on its shape, not on what it knows.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fastkd.core import Seeds
from fastkd.core.capability import cpu_count, version_of
from fastkd.core.interactions import Interactions
from fastkd.data import DataConfig, SyntheticConfig, batches, load_dataset
from fastkd.distillation import build_method
from fastkd.models import EmbeddingTeacher, ModelConfig, build_model
from fastkd.sampling import NegativeSampler
from fastkd.training import TrainingConfig
from fastkd.training.optimisers import build_optimizer
from fastkd.training.step import Learner, train_step

OPTIONS = {"weight": 0.1, "ranked": 100, "unranked": 200, "top": 500, "temperature": 10.0}
BATCH, STUDENT_DIM, TEACHER_DIM = 2048, 20, 400


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def training_set(path: Path | None) -> Interactions:
    """Return CiteULike's training interactions, or a synthetic set of its size."""
    if path is not None:
        return load_dataset(DataConfig(path=path, split="column", split_column="split", keep_ids=True)).train
    config = SyntheticConfig(num_users=5219, num_items=25181, interactions_per_user=24, seed=0)
    return load_dataset(DataConfig(synthetic=config)).train


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Parquet file with user, item, split")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    train = training_set(arguments.data)
    seeds = Seeds(0)
    noise = seeds.torch("teacher")
    teacher = EmbeddingTeacher(
        torch.randn(train.num_users, TEACHER_DIM, generator=noise),
        torch.randn(train.num_items, TEACHER_DIM, generator=noise),
    )
    student = build_model(ModelConfig(name="bpr_mf", dim=STUDENT_DIM), train, seeds)
    method = build_method("rrd", OPTIONS, seeds)
    prepare, _ = timed(lambda: method.prepare(teacher, student, train, epochs=arguments.epochs))
    config = TrainingConfig(epochs=arguments.epochs, batch_size=BATCH, weight_decay=1e-5)
    learner = Learner(student, method, build_optimizer(student, method.optimizer_groups(), config))
    sampler = NegativeSampler(train, seed=1)

    rows: list[tuple[float, float, float]] = []
    step = 0
    for epoch in range(arguments.epochs):
        refresh, _ = timed(lambda e=epoch: method.begin_epoch(e, student))  # type: ignore[misc]
        draw, negatives = timed(lambda e=epoch: sampler.sample_epoch(1, epoch=e))  # type: ignore[misc]
        start = time.perf_counter()
        for batch in batches(train, negatives=negatives, batch_size=BATCH, seeds=seeds, epoch=epoch):
            train_step(learner, batch, epoch=epoch, step=step)
            step += 1
        rows.append((refresh, draw, time.perf_counter() - start))

    print(f"{train!r}, batch {BATCH}, RRD {OPTIONS}")
    print(f"{platform.machine()}, {cpu_count()} cores, torch {torch.__version__}, numba {version_of('numba')}")
    print(f"prepare (teacher lists, d={TEACHER_DIM}, once): {prepare:.3f} s")
    print(f"first epoch, compiling: {sum(rows[0]):.3f} s")
    for name, column in zip(("refresh lists", "draw negatives", "steps"), zip(*rows[1:], strict=True), strict=True):
        print(f"{name}: {statistics.median(column):.3f} s")
    print(f"epoch: {statistics.median(sum(r) for r in rows[1:]):.3f} s")


if __name__ == "__main__":
    main()
