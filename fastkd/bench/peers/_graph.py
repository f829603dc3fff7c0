"""Our own op replayed from a CUDA graph: what is left when launching costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, Way


def replay(name: str, point: Point, i: Inputs) -> Call:
    """Capture a call and return its replay."""
    from fastkd.bench.cases import case_named

    case = case_named(name)
    case.call(i, "auto")  # compiles, and moves masks to the device
    torch.cuda.synchronize()
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = case.call(i, "auto")

    def run() -> Any:
        graph.replay()
        return result

    return run


def _forward_only(name: str) -> Mapping[str, Way]:
    from fastkd.bench.cases import case_named

    case = case_named(name)
    plain = not case.leaves and case.check is not None and not name.startswith("negatives_")
    return {"": partial(replay, name)} if plain else {}


PEER = Peer("graph", "torch", "torch", {}, devices=("cuda",), every=_forward_only)
