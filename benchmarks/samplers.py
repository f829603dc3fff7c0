"""Negative samplers: draws per second beside their peers, scaling, building, and their share of a training epoch.

    python benchmarks/samplers.py             # all sections, about five minutes
    python benchmarks/samplers.py draws       # each distribution and peer, one thread
    python benchmarks/samplers.py scaling     # 1 to all cores
    python benchmarks/samplers.py build       # N = 10M, nnz = 100M: seconds and memory
    python benchmarks/samplers.py end-to-end  # epochs of BPR-MF with and without sampling; --data FILE.parquet

Each section replaces its part of ``benchmarks/results/samplers.json`` (``--out FILE``: of that file); nothing else
writes there. ``--recbole FOLDER`` times RecBole's own ``sample_by_key_ids`` (a folder that
``pip install --no-deps --target FOLDER recbole`` filled). Draws are checked against the histories before anything is
timed; times are medians. implicit's BPR draws inside its Cython training loop and hands no draws out, so its form is
written down again in ``sampler_peers.py`` and compiled by numba.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from sampler_peers import with_implicit, with_numpy, with_recbole, with_torch

from fastkd.core import Interactions, Seeds
from fastkd.core.capability import cpu_count, version_of
from fastkd.data import DataConfig, batches, load_dataset
from fastkd.models import ModelConfig, build_model
from fastkd.sampling import NegativeSampler
from fastkd.sampling.distributions import Hard
from fastkd.sampling.epochs import EpochProducer
from fastkd.sampling.in_batch import InBatchSampler
from fastkd.training import TrainingConfig
from fastkd.training.negatives import EpochNegatives
from fastkd.training.optimisers import build_optimizer
from fastkd.training.step import Learner, train_step

Ids = NDArray[np.int64]
USERS, ITEMS, DEGREE, ROWS, N = 20_000, 1_000_000, 100, 8192, 64
EPOCHS, READY = 120, 8
RESULTS = Path(__file__).parent / "results" / "samplers.json"
DISTRIBUTIONS = ("uniform", "popularity", "mixed", "stratified")


def median_seconds(work: Callable[[], Any], rounds: int = 7) -> float:
    """Return the median time of ``work`` after one call that is not timed."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def table(users: int, items: int, degree: int) -> Interactions:
    """Return ``degree`` items for each user, one drawn from each of ``degree`` equal stretches of the catalogue."""
    indptr = np.arange(users + 1, dtype=np.int64) * degree
    indices = np.random.default_rng(0).integers(0, items // max(degree, 1), (users, degree), dtype=np.int32)
    indices += np.arange(degree, dtype=np.int32) * (items // max(degree, 1))
    return Interactions(indptr, indices.reshape(-1), items)


def _last_users_only(train: Interactions) -> Interactions:
    """Return the same histories held by the last of ``USERS`` users; the others have none."""
    none = np.zeros(USERS - train.num_users, dtype=np.int64)
    return Interactions(np.concatenate([none, train.indptr]), train.indices, train.num_items)


def check(train: Interactions, users: Ids, drawn: Ids) -> None:
    """Raise if any draw lies outside the catalogue or in its user's history."""
    flat = drawn.reshape(-1)
    inside = (flat >= 0).all() and (flat < train.num_items).all()
    if not inside or train.contains(np.repeat(users, drawn.shape[1]), flat).any():
        raise AssertionError("a draw is a positive")


def draws(recbole: str | None) -> dict[str, float]:
    """Return million draws per second on one thread, by case."""
    torch.set_num_threads(1)
    seen, unseen = table(USERS, ITEMS, DEGREE), _last_users_only(table(1000, ITEMS, DEGREE * USERS // 1000))
    users = np.random.default_rng(1).integers(0, USERS - 1000, ROWS)
    found: dict[str, float] = {}

    def time_case(name: str, train: Interactions, n: int, draw: Callable[[], Ids], rounds: int = 7) -> None:
        check(train, users, draw())
        found[name] = ROWS * n / median_seconds(draw, rounds) / 1e6
        print(f"{name:<44}{found[name]:>10.2f} M/s", flush=True)

    out = np.empty((ROWS, N), dtype=np.int32)
    for name in DISTRIBUTIONS:
        for kind, train in (("excluded", seen), ("no history", unseen)):
            sampler = NegativeSampler(train, distribution=name, num_threads=1)
            time_case(f"{name}, {kind}", train, N, lambda s=sampler: s.sample(users, N, out=out))  # type: ignore[misc]
    uniform = NegativeSampler(seen, num_threads=1)
    time_case("uniform, excluded, without replacement", seen, N, lambda: uniform.sample(users, N, replacement=False))
    long = table(USERS, ITEMS, 200)
    for name in ("uniform", "popularity"):
        for degree, train in ((100, seen), (200, long)):
            sampler = NegativeSampler(train, distribution=name, num_threads=1)
            for n in (1, 16) if degree == 100 else (16, 64):
                case = f"{name}, excluded, degree {degree}, n = {n}"
                time_case(case, train, n, lambda s=sampler, k=n: s.sample(users, k))  # type: ignore[misc]
    vectors = tuple(np.random.default_rng(2).standard_normal((k, 16), dtype=np.float32) for k in (USERS, ITEMS))
    hard = NegativeSampler(seen, distribution=Hard(vectors, 8), num_threads=1)  # type: ignore[arg-type]
    time_case("hard (best of 8, d = 16), excluded", seen, 8, lambda: hard.sample(users, 8), 3)
    numba = NegativeSampler(seen, num_threads=1, backend="numba")
    time_case("numba twin: uniform, excluded", seen, N, lambda: numba.sample(users, N))
    time_case("numpy: uniform, excluded", seen, N, with_numpy(seen, users, N), 3)
    time_case("torch: uniform, excluded", seen, N, with_torch(seen, users, N), 3)
    time_case("implicit's form, by numba: by count, excluded", seen, N, with_implicit(seen, users, N), 3)
    if recbole is not None:
        few = users[:1024]
        draw = with_recbole(seen, few, N, recbole)
        check(seen, few, draw())
        found["recbole: uniform, excluded"] = len(few) * N / median_seconds(draw, 3) / 1e6
        print(f"recbole: {found['recbole: uniform, excluded']:.2f} M/s")
    batch = InBatchSampler(seen, num_threads=1)
    positives = seen.indices[seen.indptr[users]].astype(np.int64)
    seconds = median_seconds(lambda: batch.false_negatives(users, positives))
    print(f"in_batch: false negatives of a batch of {ROWS}: {1e3 * seconds:.2f} ms")
    return found | {"in_batch ms per batch of 8192": 1e3 * seconds}


def scaling() -> dict[str, float]:
    """Return millions a second by threads: draws of an epoch, and interactions of epochs made whole."""
    train = table(USERS, ITEMS, DEGREE)
    found = {}
    for threads in sorted({1, *(2**k for k in range(1, 8) if 2**k <= cpu_count()), cpu_count()}):
        for name in DISTRIBUTIONS:
            sampler = NegativeSampler(train, distribution=name, num_threads=threads)
            out = np.empty((train.nnz, 4), dtype=np.int32)
            seconds = median_seconds(lambda s=sampler, o=out: s.sample_epoch(4, epoch=1, out=o), 5)  # type: ignore[misc]
            found[f"{name}, {threads} threads"] = train.nnz * 4 / seconds / 1e6
        producer = EpochProducer(NegativeSampler(train, num_threads=threads), 1)
        room = producer.allocate()
        seconds = median_seconds(lambda p=producer, r=room: p.draw(1, r), 5)  # type: ignore[misc]
        found[f"whole epochs (shuffle, 1 negative, layout), {threads} threads"] = train.nnz / seconds / 1e6
    for name, value in found.items():
        print(f"{name:<64}{value:>10.2f} M/s")
    return found


def _memory() -> tuple[int, int]:
    """Return resident bytes now and at their highest."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def building() -> dict[str, float]:
    """Return seconds and memory to build each sampler over 10M items and 100M interactions."""
    train = table(1_000_000, 10_000_000, 100)
    csr = train.indptr.nbytes + train.indices.nbytes
    found = {}
    for name in DISTRIBUTIONS:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
        before = _memory()[0]
        start = time.perf_counter()
        sampler = NegativeSampler(train, distribution=name)
        seconds = time.perf_counter() - start
        after, highest = _memory()
        held = sampler._draws.nbytes  # type: ignore[attr-defined]
        found[f"{name}: seconds"] = seconds
        found[f"{name}: held, with the CSR / CSR"] = 1 + held / csr
        found[f"{name}: resident, with the CSR / CSR"] = 1 + (after - before) / csr
        found[f"{name}: highest / CSR"] = 1 + (highest - before) / csr
        start = time.perf_counter()
        sampler.sample(np.arange(0, 1_000_000, 100), 16)
        found[f"{name}: 160,000 draws, seconds"] = time.perf_counter() - start
        del sampler
    for name, value in found.items():
        print(f"{name:<48}{value:>10.3f}")
    return found


class _Clock:
    """Adds up the time of calls, on whichever thread: by the wall, and of the calling thread's processor."""

    def __init__(self) -> None:
        self.wall = self.processor = 0.0

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``work``, timed."""

        def call(*arguments: Any) -> Any:
            wall, processor = time.perf_counter(), time.thread_time()
            try:
                return work(*arguments)
            finally:
                self.wall += time.perf_counter() - wall
                self.processor += time.thread_time() - processor

        return call


def end_to_end(path: Path | None) -> dict[str, float]:
    """Return what an epoch of BPR-MF costs with batches made before, by the trainer's producer, and by numpy.

    The producer is timed inside the run too: what it takes of its thread's processor (it is given one thread, so that
    all of it is counted), and what the training loop waits for it.
    """
    if path is None:
        train = table(5219, 25_181, 19)
    else:
        train = load_dataset(DataConfig(path=path, split="column", split_column="split", keep_ids=True)).train
    config = TrainingConfig(epochs=1000, batch_size=2048, negatives=1)
    student = build_model(ModelConfig(name="bpr_mf", dim=64), train, Seeds(0))
    learner = Learner(student, None, build_optimizer(student, [], config))
    peer = with_numpy(train, train.entry_users().astype(np.int64), 1)
    seeds = Seeds(config.seed)
    producing, waiting = _Clock(), _Clock()
    times: dict[str, list[float]] = {"no sampling": [], "fastkd": [], "numpy": []}

    def steps(source: Any, epoch: int) -> None:
        for step, batch in enumerate(source):
            train_step(learner, batch, epoch=epoch, step=step)

    def numpys(epoch: int) -> Any:
        return batches(train, negatives=peer(), batch_size=config.batch_size, seeds=seeds, epoch=epoch)

    with (
        mock.patch.object(EpochProducer, "draw", producing.timed(EpochProducer.draw)),
        mock.patch("fastkd.sampling.negatives.cpu_count", return_value=1),
        EpochNegatives(train, None, config) as negatives,
    ):
        ready = [list(negatives.batches(epoch)) for epoch in range(READY)]
        sources: dict[str, Callable[[int], Any]] = {
            "no sampling": lambda epoch: ready[epoch % READY],
            "fastkd": waiting.timed(negatives.batches),
            "numpy": numpys,
        }
        for epoch in range(READY, READY + EPOCHS + 1):  # in turns, so that the machine's moods meet all three
            for name in np.roll(list(sources), epoch).tolist():
                start = time.perf_counter()
                steps(sources[name](epoch), epoch)
                times[name].append(time.perf_counter() - start)
    found = {f"epoch, {name}: ms": 1e3 * statistics.median(values[1:]) for name, values in times.items()}
    for name in ("fastkd", "numpy"):  # each epoch against the one without sampling beside it
        added = [100 * (a / b - 1) for a, b in zip(times[name][1:], times["no sampling"][1:], strict=True)]
        found[f"added to the median epoch by {name}: %"] = 100 * (
            found[f"epoch, {name}: ms"] / found["epoch, no sampling: ms"] - 1
        )
        quartiles = zip(("lower quartile", "median", "upper quartile"), statistics.quantiles(added), strict=True)
        for label, value in quartiles:
            found[f"added to an epoch by {name}, {label}: %"] = value
    epochs = READY + len(times["fastkd"]) + 1  # the last was begun and not used
    found["producer, in the run: ms of processor per epoch"] = 1e3 * producing.processor / epochs
    found["producer, in the run: % of the epoch"] = (
        100 * found["producer, in the run: ms of processor per epoch"] / found["epoch, fastkd: ms"]
    )
    found["training waits for the producer: ms per epoch"] = 1e3 * waiting.wall / len(times["fastkd"])
    found["numpy's draws alone: ms"] = 1e3 * median_seconds(peer)
    print(repr(train))
    for name, value in found.items():
        print(f"{name:<56}{value:>10.2f}")
    return found


def main() -> None:
    """Measure one section and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("all", "draws", "scaling", "build", "end-to-end"), default="all")
    parser.add_argument("--data", type=Path, help="Parquet file with user, item, split")
    parser.add_argument("--recbole", help="folder that holds RecBole")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write (%(default)s)")
    arguments = parser.parse_args()
    versions = {name: version_of(name) for name in ("numpy", "torch", "numba")}
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cores": cpu_count(),
        "python": sys.version.split()[0],
    }
    print(machine | versions, f"N={ITEMS:,}, {DEGREE} items per user, {ROWS} rows x {N}, pid {os.getpid()}")
    sections: dict[str, Callable[[], dict[str, float]]] = {
        "draws": lambda: draws(arguments.recbole),
        "scaling": scaling,
        "build": building,
        "end-to-end": lambda: end_to_end(arguments.data),
    }
    for name in sections if arguments.section == "all" else [arguments.section]:
        measured = {case: float(f"{value:.4g}") for case, value in sections[name]().items()}
        held = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        held |= machine | versions | {name: measured}
        arguments.out.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
