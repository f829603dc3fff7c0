"""pytest-benchmark over the registry of `fastkd bench`: quick points, ours and plain torch, the same inputs.

    python -m pytest benchmarks [-k rank_topk]

A first look with pytest-benchmark's statistics and its ``--benchmark-compare``; figures that are kept come from
``fastkd bench``, which checks, takes turns and knows the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.conftest import history
from fastkd.bench import CASES, Case, Point, chosen
from fastkd.bench.peers import Unable, peer_named
from fastkd.bench.run import work_of
from fastkd.core import Seeds
from fastkd.sampling import NegativeSampler

POINTS = [
    (case, point) for case in CASES.values() for point in chosen(case, "cpu", quick=True, sweep=False, slow=False)
]


@pytest.mark.parametrize("who", ["fastkd", "torch"])
@pytest.mark.parametrize(("case", "point"), POINTS, ids=lambda value: getattr(value, "name", None) or value.label())
def test_case(benchmark: Any, case: Case, point: Point, who: str) -> None:
    """Time a case, forward and backward where there is a gradient, after the results have been compared."""
    inputs = case.make(point, 0, "cpu")
    call: Callable[[], Any] = lambda: case.call(inputs, "auto")  # noqa: E731
    if who == "torch":
        try:
            way = next(iter(peer_named("torch").variants(case.name, "cpu").values()))
        except Unable as reason:
            pytest.skip(str(reason))
        ours, call = call, way(point, inputs)
        assert case.same(ours(), call(), inputs) is None
    work = work_of(case, case.passes[-1], call, inputs)
    benchmark.pedantic(lambda: work.run(work.setup()), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("backend", ["native", "numba"])
def test_sample_epoch(benchmark: Any, seeds: Seeds, backend: str) -> None:
    """One negative for each of a million interactions: 50k users x 20 items, 100k items."""
    sampler = NegativeSampler(history(seeds, 50_000, 100_000, 20), seed=0, backend=backend)
    benchmark.pedantic(lambda: sampler.sample_epoch(1, epoch=1), rounds=10, warmup_rounds=1)
