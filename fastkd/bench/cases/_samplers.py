"""Negative samplers on the host: one core, histories of ``seen`` items, n draws a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastkd.bench.case import Case, Inputs, Point, Work, at
from fastkd.bench.inputs import history
from fastkd.bench.same import own_stream
from fastkd.core import Seeds
from fastkd.sampling import NegativeSampler

USERS = 20_000


def _make(name: str) -> Any:
    def make(point: Point, seed: int, device: str) -> Inputs:
        seen = history(point["U"], point["N"], point["seen"], seed)
        rows = Seeds(seed).numpy("rows").integers(0, point["U"], point["B"])
        samplers: dict[str, NegativeSampler] = {}
        return {
            "seen": seen, "user_ids": rows, "n": point["n"], "limit": point["N"], "samplers": samplers, "kind": name,
            "out": np.empty((point["B"], point["n"]), dtype=np.int32),
        }  # fmt: skip

    return make


def _draw(i: Inputs, backend: str) -> Any:
    samplers = i["samplers"]
    if backend not in samplers:
        samplers[backend] = NegativeSampler(i["seen"], distribution=i["kind"], num_threads=1, backend=backend)
    return samplers[backend].sample(i["user_ids"], i["n"], out=i["out"])


def _work(point: Point) -> Work:
    """Count draws and the ids written; there is no floor, for what bounds it are cache misses on histories."""
    drawn = point["B"] * point["n"]
    return Work(0.0, 4.0 * drawn, drawn)


def _case(name: str, *points: Point) -> Case:
    return Case(
        name=f"negatives_{name}",
        summary=f"{name} negatives outside the history, C++ sampler, one core",
        make=_make(name), call=_draw, work=_work, same=own_stream, unit="draws", threads=1, floor=False,
        check=at(U=23, B=37, N=509, seen=7, n=9),
        tests=("tests/sampling/test_negatives.py", "tests/sampling/test_distributions.py"),
        points=points,
    )  # fmt: skip


SAMPLERS = (
    _case(
        "uniform",
        at("quick", U=USERS, B=8192, N=1_000_000, seen=100, n=64),
        at("cpu", U=USERS, B=8192, N=1_000_000, seen=200, n=16),
        at("cpu", U=USERS, B=8192, N=1_000_000, seen=1, n=64),
    ),
    _case("popularity", at("cpu", U=USERS, B=8192, N=1_000_000, seen=100, n=64)),
    _case("mixed", at("cpu", U=USERS, B=8192, N=1_000_000, seen=100, n=64)),
    _case("stratified", at("cpu", U=USERS, B=8192, N=1_000_000, seen=100, n=64)),
)
