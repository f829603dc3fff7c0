"""Whole jobs: an epoch of RRD, a full-catalogue evaluation, a teacher's lists, the time to a first step.

Upper rooms are imported where they are used: on a bare GPU machine, which may lack what they read files with, the
registry of ops still loads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import history, tables
from fastkd.core import Interactions, Seeds

if TYPE_CHECKING:
    from fastkd.training.negatives import EpochNegatives
    from fastkd.training.step import Learner


def _rrd_inputs(point: Point, seed: int, device: str) -> Inputs:
    """Make interactions, ``top`` listed items a user (one of each stretch of the catalogue), an untrained student."""
    train = history(point["U"], point["N"], point["seen"], seed)
    top = history(point["U"], point["N"], point["top"], seed + 1).indices.reshape(point["U"], -1)
    return {"train": train, "top": torch.from_numpy(top.astype(np.int64)), "point": point, "device": device, "made": {}}


def _rrd_epoch(i: Inputs, backend: str) -> Tensor:
    """Refresh the lists, draw negatives, run every step, as the trainer does with row-sparse Adam."""
    from fastkd.training.step import train_step

    if "run" not in i["made"]:
        i["made"]["run"] = _rrd(i)
    learner, negatives, state = i["made"]["run"]
    epoch, first = state["epoch"], torch.zeros(())
    state["epoch"] += 1
    learner.method.begin_epoch(epoch, learner.student)
    for step, batch in enumerate(negatives.batches(epoch)):
        values = train_step(learner, batch.to(torch.device(i["device"])), epoch=epoch, step=step)
        first = first if step else values["loss"] / len(batch)
    return first


def _rrd(i: Inputs) -> tuple[Learner, EpochNegatives, dict[str, int]]:
    from fastkd.distillation import build_method
    from fastkd.models import ListTeacher, ModelConfig, build_model
    from fastkd.training import TrainingConfig
    from fastkd.training.negatives import EpochNegatives
    from fastkd.training.optimisers import build_optimizer
    from fastkd.training.step import Learner

    point, train = i["point"], i["train"]
    config = TrainingConfig(epochs=100, batch_size=point["B"], optimizer="row_adam", eval_every=0)
    student = build_model(ModelConfig(name="bpr_mf", dim=point["D"]), train, Seeds(0)).to(i["device"])
    options = {"ranked": point["K"], "unranked": point["L"], "top": point["top"], "weight": 0.01}
    method = build_method("rrd", options, Seeds(0))
    places = torch.arange(point["top"], 0, -1).float().expand(i["top"].shape)
    method.prepare(ListTeacher(i["top"], places, point["N"], short="pad"), student, train, epochs=config.epochs)
    learner = Learner(student, method, build_optimizer(student, method.optimizer_groups(), config), row_sparse=True)
    return learner, EpochNegatives(train, method, config), {"epoch": 0}


def _eval_inputs(point: Point, seed: int, device: str) -> Inputs:
    from fastkd.data.dataset import Dataset, IdMap
    from fastkd.models import EmbeddingTeacher

    users, items = tables(Point({**point.sizes, "B": point["U"]}), seed, device)
    train = history(point["U"], point["N"], point["seen"], seed)
    wanted = history(point["U"], point["N"], 2, seed + 1)
    keys = wanted.entry_users() * point["N"] + wanted.indices
    fresh = ~np.isin(keys, train.entry_users() * point["N"] + train.indices)
    test = Interactions.from_pairs(
        wanted.entry_users()[fresh], wanted.indices[fresh], num_users=point["U"], num_items=point["N"]
    )
    maps = (IdMap(np.arange(point["U"])), IdMap(np.arange(point["N"])))
    data = Dataset(train, Interactions.empty(point["U"], point["N"]), test, *maps)
    return {"users": users, "items": items, "data": data, "teacher": EmbeddingTeacher(users, items), "k": point["K"]}


def _evaluation(i: Inputs, backend: str) -> Any:
    from fastkd.evaluation import EvalConfig, evaluate

    config = EvalConfig(ks=(i["k"],), metrics=("recall", "ndcg"), mask="train")
    return evaluate(i["teacher"], i["data"], "test", config=config).metrics[f"ndcg@{i['k']}"]


def _list_inputs(point: Point, seed: int, device: str) -> Inputs:
    from fastkd.models import EmbeddingTeacher

    users, items = tables(Point({**point.sizes, "B": point["U"]}), seed, device)
    seen = history(point["U"], point["N"], point["seen"], seed)
    return {"users": users, "items": items, "seen": seen, "k": point["K"], "teacher": EmbeddingTeacher(users, items)}


def same_number(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare two metrics: peers rank rounded scores."""
    return None if abs(float(ours) - float(theirs)) <= 1e-4 else f"found {float(theirs):.5f}, ours {float(ours):.5f}"


def own_draws(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare the first step's loss per interaction, from starts and draws of the same law: within a twentieth."""
    apart = abs(float(ours) - float(theirs)) / max(abs(float(ours)), 1e-9)
    return None if apart <= 0.05 else f"starts at a loss {apart:.0%} away"


FIRST_STEP = """
import torch
from fastkd import ops
users, items = torch.randn(64, 32, requires_grad=True), torch.randn(1000, 32, requires_grad=True)
ids = torch.randint(1000, (64, 40))
ops.rank_topk(users, items, 10)
ops.relaxed_ranking_from_embeddings(users, items, ids[:, :20], ids[:, 20:]).sum().backward()
"""


def _first_inputs(point: Point, seed: int, device: str) -> Inputs:
    return {"cold": bool(point["cold"])}


def process(program: str, **environment: str) -> None:
    """Run a program in a fresh interpreter; raises with what it said if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **environment}, cwd=folder, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])


def _first_step(i: Inputs, backend: str) -> None:
    if not i["cold"]:
        return process(FIRST_STEP)
    with tempfile.TemporaryDirectory() as cache:
        return process(FIRST_STEP, NUMBA_CACHE_DIR=cache)


def nothing(ours: Any, theirs: Any, inputs: Inputs) -> str | None:
    """Compare nothing: there is no result."""
    return None


def _units(letter: str) -> Any:
    return lambda point: Work(0.0, 0.0, float(point[letter] or 1))


def _epoch(n: int, tags: str) -> Point:
    return at(tags, U=20_000, N=n, D=32, seen=20, B=2048, K=40, L=40, top=200)


JOBS = (
    Case(
        name="rrd_epoch",
        summary="an epoch of RRD: lists, negatives, every step with row-sparse Adam",
        make=_rrd_inputs, call=_rrd_epoch, work=lambda p: Work(0.0, 0.0, float(p["U"] * p["seen"])), same=own_draws,
        unit="interactions", check=None, floor=False, rounds=1,
        tests=("tests/distillation/test_rrd.py", "tests/training/test_step.py"),
        points=tuple(_epoch(n, "cpu cuda slow") for n in (100_000, 1_000_000, 10_000_000)),
    ),
    Case(
        name="evaluation",
        summary="recall and NDCG of U users over the whole catalogue, training items masked",
        make=_eval_inputs, call=_evaluation, work=_units("U"), same=same_number, unit="users", check=None,
        floor=False, rounds=1, tests=("tests/evaluation/test_ranking.py", "tests/evaluation/test_metrics.py"),
        points=(at("cpu slow", U=100_000, N=100_000, D=64, K=20, seen=20),),
    ),
    Case(
        name="teacher_lists",
        summary="a teacher's K best items of each of U users, seen items left out",
        make=_list_inputs, call=lambda i, backend: i["teacher"].lists(i["k"], i["seen"]).ids, work=_units("U"),
        same=nothing, unit="users", check=None, floor=False, rounds=1, tests=("tests/models/test_teacher.py",),
        points=(
            at("cpu slow", U=5219, N=25_181, D=400, K=500, seen=19),
            at("cpu slow", U=10_000, N=1_000_000, D=64, K=500, seen=20),
        ),
    ),
    Case(
        name="first_step",
        summary="a fresh process: imports, a ranking, a loss and its gradient; cold=1: with nothing compiled yet",
        make=_first_inputs, call=_first_step, work=lambda p: Work(0.0, 0.0, 1.0), same=nothing, unit="processes",
        check=None, floor=False, rounds=2,
        tests=("tests/ops/test_rank_topk.py", "tests/ops/test_relaxed_ranking_from_embeddings.py"),
        points=(at("cpu slow", cold=0), at("cpu slow", cold=1)),
    ),
)  # fmt: skip
