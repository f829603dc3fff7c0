"""What a method does each epoch and each step, against the dense way to write it in torch, on the same inputs.

    python -m benchmarks.methods --method cd      CiteULike's shape: 5,219 x 25,187, 20 and 400 wide
    python -m benchmarks.methods --method cd --users 4096 --items 1000000 --no-peer
    python -m benchmarks.methods --method cd --out benchmarks/results/methods.json
    python -m benchmarks.methods --table --out benchmarks/results/methods.json   what is in the file, as Markdown

``refresh``: the lists and draws of an epoch. ``step``: the distillation term of a batch forward and backward, to both
tables. Peers hold what the published programs hold: the users x items score matrix or mask, ``torch.multinomial`` over
it, and in a step a [rows, columns, width] gather. They are vectorised where those loop over users, so they are faster
than what was published. Inputs are random normal; a peer draws from the same distribution, not the same items.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._dense_methods import Dense
from fastkd.core import Seeds
from fastkd.core.capability import cpu_count, version_of
from fastkd.core.files import write_text
from fastkd.core.interactions import Interactions
from fastkd.data.batch import Batch
from fastkd.distillation import Method, Step, build_method
from fastkd.distillation.hetcomp import HetComp
from fastkd.models import (
    EmbeddingTeacher,
    ModelConfig,
    ModelTeacher,
    Recommender,
    Teacher,
    TeacherTrajectory,
    build_model,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "rrd": {"ranked": 100, "unranked": 200, "top": 500},
    "kd_ce": {"guide": "student", "listed": 100},
    "rd": {"listed": 30, "samples": 100, "start_epoch": 0},
    "cd": {"guide": "student", "drawn": 50, "top": 3000},
    "cd:2": {"guide": "student", "drawn": 2, "top": 3000},
    "rce_kd": {"listed": 100, "drawn": 100, "top": 500},
    "ir_rrd": {"ranked": 40, "unranked": 40, "top": 500, "item_ranked": 20, "item_unranked": 20, "item_top": 500},
    "dcd": {"ranked": 100, "top": 500, "temperature": 10.0},
    "unkd": {"groups": 4, "pairs": 30, "top": 1000},
    "hetcomp": {"ranked": 100, "states": 4, "list_length": 100, "update": 10},
    "bd": {"update": 10},
    "de": {"experts": 5, "anneal_epochs": 10},
}
PUBLISHED: dict[str, dict[str, float]] = {
    "rrd": {"refresh": 25_500, "step": 1500},
    "cd": {"refresh": 36_200},
    "cd:2": {"refresh": 12_300},
    "dcd": {"refresh": 60_000},
    "rce_kd": {"refresh": 2800},
    "rd": {"refresh": 3600},
}
"""Milliseconds of published programs on two CPU threads, CiteULike's data, equal lists (cd: 50 drawn, cd:2: two)."""
EVERY = {"hetcomp": 10, "bd": 10}
"""Epochs from one refresh to the next, where it is not each."""
SEEN = 19


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
    parser.add_argument("--out", type=Path, metavar="FILE", help="add the figures to this JSON file")
    parser.add_argument("--no-peer", action="store_true", help="leave out the dense forms")
    parser.add_argument("--table", action="store_true", help="print what --out holds and stop")
    given = parser.parse_args()
    if given.table:
        print_tables(json.loads(given.out.read_text(encoding="utf-8")))
        return
    random, noise = Seeds(0).numpy("benchmark"), Seeds(0).torch("benchmark")
    train = interactions(given.users, given.items, random)
    teacher = made_teacher(given, train, noise)
    student = build_model(ModelConfig(dim=given.dim, init_std=0.3), train, Seeds(1))
    name = given.method.partition(":")[0]
    method = build_method(name, OPTIONS[given.method], Seeds(0))
    prepared = milliseconds(lambda: method.prepare(teacher, student, train, epochs=100), 1)
    entries = torch.from_numpy(random.permutation(train.nnz)[: given.batch])
    users, positives = (torch.from_numpy(np.asarray(a, dtype=np.int64)) for a in (train.entry_users(), train.indices))
    batch = Batch(entries, users[entries], positives[entries], positives[entries][:, None])
    method.begin_epoch(0, student)
    one_step(method, student, batch)
    refresh = timed_refresh(method, student, given.repeats)
    step = milliseconds(lambda: one_step(method, student, batch), 4 * given.repeats)
    print(f"{given.method} {OPTIONS[given.method]}, {train!r}")
    print(f"student {given.dim} wide, teacher {given.teacher_dim}, {given.batch} rows a step")
    print(f"{platform.machine()}, {cpu_count()} cores, torch {torch.__version__}, numba {version_of('numba')}")
    steps, every = -(-train.nnz // given.batch), EVERY.get(given.method, 1)

    def show(who: str, refreshed: float, stepped: float) -> None:
        epoch = refreshed / every + steps * stepped
        print(f"{who:7} refresh {refreshed:9.1f} ms   step {stepped:8.2f} ms   epoch of {steps} steps {epoch:9.1f} ms")

    print(f"prepare, once: {prepared:.1f} ms")
    show("fastkd", refresh, step)
    record = {"prepare": prepared, "fastkd": {"refresh": refresh, "step": step}, "steps": steps, "every": every}
    if not given.no_peer:
        dense = Dense(train, teacher, student, method)
        top = teacher.lists(500, train).ids
        make = getattr(dense, f"refresh_{name}", lambda _: ())
        lists = make(top)
        peer_refresh = milliseconds(lambda: make(top), 2)
        peer_step = milliseconds(lambda: backward(student, dense.step(name, batch, lists)), 3)
        show("torch", peer_refresh, peer_step)
        record["torch"] = {"refresh": peer_refresh, "step": peer_step}
        show_ratio(record)
    if given.out is not None:
        keep(given, record)


def made_teacher(given: argparse.Namespace, train: Interactions, noise: torch.Generator) -> Teacher:
    """Return a random teacher: vectors, a model where it is trained too, four states where it has a past."""

    def table(rows: int) -> Tensor:
        return torch.randn(rows, given.teacher_dim, generator=noise)

    if given.method == "bd":
        return ModelTeacher(build_model(ModelConfig(dim=given.teacher_dim, init_std=1.0), train, Seeds(2)))
    count = OPTIONS["hetcomp"]["states"] if given.method == "hetcomp" else 1
    return TeacherTrajectory([EmbeddingTeacher(table(given.users), table(given.items)) for _ in range(count)])


def timed_refresh(method: Method, student: Recommender, repeats: int) -> float:
    """Return the median time of the epochs that refresh."""
    epochs = itertools.count(EVERY.get(method.name, 1), EVERY.get(method.name, 1))

    def refresh() -> None:
        if isinstance(method, HetComp):
            method._states[:] = 0  # Users who have arrived cost nothing more.
        method.begin_epoch(next(epochs), student)

    if isinstance(method, HetComp):
        refresh()  # The first one only measures.
    return milliseconds(refresh, repeats)


def show_ratio(record: dict[str, Any]) -> None:
    """Print how many times as long the dense form takes."""
    (refresh, step), (peer_refresh, peer_step) = (record[who].values() for who in ("fastkd", "torch"))
    steps, every = record["steps"], record["every"]
    epochs_apart = (peer_refresh / every + steps * peer_step) / (refresh / every + steps * step)
    # RD draws within its steps, so its refresh takes nothing.
    parts = f"refresh {peer_refresh / refresh:.1f}, " if refresh > 0.1 else ""
    print(f"ratio   {parts}step {peer_step / step:.1f}, epoch {epochs_apart:.1f}")


def print_tables(entries: list[dict[str, Any]]) -> None:
    """Print one Markdown table for each shape: ours / dense torch / published, in milliseconds."""
    shapes = dict.fromkeys((e["users"], e["items"], e["dim"], e["teacher_dim"], e["batch"]) for e in entries)
    for shape in shapes:
        users, items, dim, teacher_dim, batch = shape
        print(f"\n{users:,} x {items:,}, student {dim} wide, teacher {teacher_dim}, {batch:,} rows a step\n")
        print("| method | prepare | refresh | step | epoch |\n| --- | --: | --: | --: | --: |")
        for e in entries:
            if (e["users"], e["items"], e["dim"], e["teacher_dim"], e["batch"]) == shape:
                print(table_row(e["method"], e["ms"], PUBLISHED.get(e["method"], {}) if users == 5219 else {}))


def table_row(method: str, ms: dict[str, Any], published: dict[str, float]) -> str:
    """Return one method's line; a part that nobody has is a dash."""

    def cell(part: str) -> str:
        found = [ms["fastkd"][part], ms.get("torch", {}).get(part), published.get(part)]
        while found and found[-1] is None:
            found.pop()
        return " / ".join("-" if not v else f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in found)

    def epoch(who: str) -> float:
        return float(ms[who]["refresh"] / ms["every"] + ms["steps"] * ms[who]["step"])

    epochs = " / ".join(f"{epoch(who):,.0f}" for who in ("fastkd", "torch") if who in ms)
    return f"| {method} | {ms['prepare']:,.0f} | {cell('refresh')} | {cell('step')} | {epochs} |"


def keep(given: argparse.Namespace, record: dict[str, Any]) -> None:
    """Add a method's figures, in milliseconds, to the results; those of the same shape are replaced."""
    shape = {name: getattr(given, name) for name in ("users", "items", "dim", "teacher_dim", "batch")}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numba": version_of("numba")}
    machine = {"machine": platform.machine(), "cores": cpu_count(), "versions": versions}
    entry = {"method": given.method, "options": OPTIONS[given.method], **shape, "date": str(date.today()), **machine}
    rounded = json.loads(json.dumps(record), parse_float=lambda text: round(float(text), 2))
    held = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    same = ("method", *shape)
    others = [old for old in held if any(old[name] != entry[name] for name in same)]
    written = sorted([*others, {**entry, "ms": rounded}], key=lambda e: (e["users"], e["method"]))
    write_text(given.out, json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
