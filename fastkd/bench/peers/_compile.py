"""torch.compile (inductor) of the plain torch losses; the first call, which compiles, is told apart."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Way


@cache
def _compiled(name: str) -> Any:
    from fastkd.bench.cases import case_named
    from fastkd.bench.peers._torch import LOSSES

    case = case_named(name)
    plain = LOSSES.get(name) or (lambda i: case.call(i, "reference").sum())
    return torch.compile(plain, fullgraph=True)


def _way(name: str, point: Point, i: Inputs) -> Call:
    return partial(_compiled(name), i)


def _losses(name: str) -> Mapping[str, Way]:
    from fastkd.bench.cases import case_named

    return {"": partial(_way, name)} if case_named(name).leaves else {}


def _first(point: Point, i: Inputs) -> Call:
    from fastkd.bench.peers._jobs import compiled_step

    return compiled_step(point, i)


PEER = Peer("compile", "torch", "torch", {"first_step": {"": _first}}, every=_losses)
