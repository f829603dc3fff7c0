"""The runner: gate, inputs, peers checked, contenders in turns, figures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fastkd.bench import clock, gate
from fastkd.bench.case import Call, Case, Inputs, Pass, Point
from fastkd.bench.clock import Timed, Times
from fastkd.bench.inputs import nbytes
from fastkd.bench.peers import Foreign, Unable, peer_named, said
from fastkd.bench.roofline import Roofline
from fastkd.core.config import conform

ROTATED = 120_000_000
"""Bytes of inputs past which they need no rotation: no cache holds them."""

SETS = 4

Row = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How to run: ``against`` names peers, ``seconds`` is spent on the rounds of one pass of one point."""

    device: str = "cpu"
    against: tuple[str, ...] = ("torch",)
    passes: tuple[Pass, ...] = ("both",)
    seconds: float = 5.0
    quick: bool = False

    def __post_init__(self) -> None:
        conform(self)


@dataclass
class Contender:
    """Who is timed: a call for each set of inputs."""

    name: str
    calls: list[Call]
    label: str = ""


def run_case(
    case: Case, points: Sequence[Point], settings: Settings, roof: Roofline, *, tests: bool = True
) -> Iterator[Row]:
    """Yield a row per point, pass and contender: figures, or ``skipped`` with the reason.

    ``tests=False``: the caller has run the tests already; the numeric check is made all the same.
    """
    wrong = gate.numeric(case, settings.device)
    verdict = gate.Verdict(wrong is None, "check alone", wrong or "")
    if verdict.passed and tests:
        verdict = gate.verdict(case, quick=settings.quick)
    if not verdict.passed:
        yield {"case": case.name, "skipped": f"not timed, {verdict.how} fail: {verdict.why}", "contender": "fastkd"}
        return
    for point in points:
        with _threads(case.threads):
            limits = roof.one if roof.one is not None and torch.get_num_threads() == 1 else roof
            for row in run_point(case, point, settings, limits):
                yield {**row, "gate": verdict.how, "threads": torch.get_num_threads()}


def threads_of(case: Case) -> int:
    """Return the threads a case runs on: its own, or torch's."""
    return case.threads or torch.get_num_threads()


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_point(case: Case, point: Point, settings: Settings, roof: Roofline) -> Iterator[Row]:
    """Yield the rows of one point."""
    about: Row = {
        "case": case.name, "point": point.label(), "sizes": dict(point.sizes), "dtype": point.dtype,
        "table": point.table, "tags": sorted(point.tags),
    }  # fmt: skip
    if case.rounds is not None:
        yield from run_job(case, point, settings, about)
        return
    sets = inputs_of(case, point, settings.device)
    ours = Contender("fastkd", [lambda i=i: case.call(i, "auto") for i in sets])  # type: ignore[misc]
    contenders = [ours]
    for name in settings.against:
        try:
            contenders.append(_peer(name, case, point, sets, settings))
        except Foreign:
            continue
        except Unable as reason:
            yield {**about, "contender": name, "skipped": str(reason)}
    for which in [p for p in case.passes if p in settings.passes] or [case.passes[0]]:
        yield from _timed(case, point, which, contenders, sets, settings, roof, about)


def run_job(case: Case, point: Point, settings: Settings, about: Row) -> Iterator[Row]:
    """Yield the rows of a long job: contenders one after another, all variants, what was measured in part scaled."""
    inputs = case.make(point, 0, settings.device)
    ours, result = None, None
    for name, label, call, reason in _jobs(case, point, inputs, settings):
        row: Row = {**about, "contender": name, "variant": label, "pass": "forward"}
        if call is None:
            yield {**row, "skipped": reason}
            continue
        if name != "fastkd":
            inputs.get("made", {}).clear()
        results: list[Any] = []
        work = Timed(lambda _, call=call, results=results: results.append(call()))  # type: ignore[misc]
        try:
            times, highest = clock.job(work, settings.device, case.rounds or 1)
        except Exception as error:  # out of memory, most often: the others are still worth having
            yield {**row, "skipped": said(error)}
            continue
        result = results[0] if result is None else result
        wrong = case.same(result, results[0], inputs)
        if wrong is not None:
            yield {**row, "skipped": f"{wrong}: not shown"}
            continue
        times = scaled(times, getattr(call, "scale", 1.0))
        ours = ours or times.p50
        row |= {**figures(times), "over_fastkd": times.p50 / ours, "peak_bytes": highest, "inputs": 1}
        row |= {"note": getattr(call, "note", ""), "unit": case.unit}
        yield row | {"units_per_s": case.work(point).units / times.p50}


def _jobs(case: Case, point: Point, inputs: Inputs, settings: Settings) -> Iterator[tuple[str, str, Call | None, str]]:
    """Yield (who, variant, call or None, why there is none), ours first; a call is made when its turn comes."""
    yield "fastkd", "", lambda: case.call(inputs, "auto"), ""
    for name in settings.against:
        try:
            for label, way in peer_named(name).variants(case.name, settings.device).items():
                try:
                    yield name, label, way(point, inputs), ""
                except Unable as reason:
                    yield name, label, None, str(reason)
        except Foreign:
            continue
        except Unable as reason:
            yield name, "", None, str(reason)


def scaled(times: Times, scale: float) -> Times:
    """Return the times of a whole from those of a part."""
    return Times(times.p20 * scale, times.p50 * scale, times.p80 * scale, times.rounds, times.first * scale)


def inputs_of(case: Case, point: Point, device: str) -> list[Inputs]:
    """Return sets of inputs to rotate through; one, where no cache can hold it."""
    first = case.make(point, 0, device)
    count = 1 if nbytes(first) > ROTATED or not case.floor else SETS
    return [first, *(case.make(point, seed, device) for seed in range(1, count))]


def _peer(name: str, case: Case, point: Point, sets: Sequence[Inputs], settings: Settings) -> Contender:
    """Return a peer's quickest variant, its result compared with ours; raises :class:`Unable` with the reason."""
    peer, found, reasons = peer_named(name), [], []
    for label, way in peer.variants(case.name, settings.device).items():
        try:
            call = way(point, sets[0])
            wrong = None if name in sets[0].get("not compared", ()) else _compared(case, call, sets[0])
            if wrong is not None:
                raise Unable(f"{wrong}: not timed")
            work = work_of(case, _heaviest(case, settings), call, sets[0])
            clock.once(work, settings.device)
            found.append((clock.once(work, settings.device), label, way))
        except Unable as reason:
            reasons.append(f"{label + ': ' if label else ''}{reason}")
        except Exception as error:  # a peer that fails (out of memory, most often) must not hide the others
            reasons.append(f"{label + ': ' if label else ''}{said(error)}")
            if settings.device == "cuda":
                torch.cuda.empty_cache()
    if not found:
        raise Unable("; ".join(dict.fromkeys(reasons)))
    _, label, way = min(found, key=lambda entry: entry[0])
    return Contender(name, [way(point, i) for i in sets], label)


def _compared(case: Case, call: Call, inputs: Inputs) -> str | None:
    with torch.no_grad() if case.leaves else contextlib.nullcontext():
        return case.same(case.call(inputs, "auto"), call(), inputs)


def _heaviest(case: Case, settings: Settings) -> Pass:
    wanted = [p for p in case.passes if p in settings.passes]
    return "both" if "both" in wanted else (wanted or [case.passes[0]])[0]


def work_of(case: Case, which: Pass, call: Call, inputs: Inputs) -> Timed:
    """Return a pass as a timed call. ``forward`` makes no graph; ``backward`` starts from one made untimed."""
    if not case.leaves:
        return Timed(lambda _: call())
    leaves = [inputs[name] for name in case.leaves]

    def forward(_: Any) -> Any:
        with torch.no_grad():
            return call()

    def backward(total: Any) -> Any:
        return torch.autograd.grad(total, leaves, allow_unused=True)

    if which == "forward":
        return Timed(forward)
    if which == "backward":
        return Timed(backward, setup=lambda: call().sum())
    return Timed(lambda _: backward(call().sum()))


def _timed(
    case: Case, point: Point, which: Pass, contenders: Sequence[Contender], sets: Sequence[Inputs],
    settings: Settings, roof: Roofline, about: Row,
) -> Iterator[Row]:  # fmt: skip
    work = {c.name: [work_of(case, which, call, i) for call, i in zip(c.calls, sets, strict=True)] for c in contenders}
    times = clock.in_turns(work, settings.device, settings.seconds)
    ours = times["fastkd"].p50
    if case.predict is not None and settings.device == "cpu":
        about = {**about, "predicted_ms": case.predict(point)}
    for contender in contenders:
        took = times[contender.name]
        highest = clock.peak(work[contender.name][0], settings.device)
        row = {**about, "pass": which, "contender": contender.name, "variant": contender.label, **figures(took)}
        row |= {"over_fastkd": took.p50 / ours, "peak_bytes": highest, "inputs": len(sets)}
        yield row | rates(case, point, which, took, roof)


def figures(took: Times) -> Row:
    """Return times in milliseconds."""
    return {
        "p20_ms": 1e3 * took.p20, "p50_ms": 1e3 * took.p50, "p80_ms": 1e3 * took.p80, "rounds": took.rounds,
        "first_ms": 1e3 * took.first,
    }  # fmt: skip


def rates(case: Case, point: Point, which: Pass, took: Times, roof: Roofline) -> Row:
    """Return units, bytes and operations a second, and the share of the roofline at the median."""
    work = case.total(point, which)
    found: Row = {"unit": case.unit, "units_per_s": work.units / took.p50}
    if not case.floor:
        return found
    floor, limit = roof.floor(work, point.dtype)
    return found | {
        "flops": work.flops, "bytes": work.bytes, "gb_per_s": work.bytes / took.p50 / 1e9,
        "gflop_per_s": work.flops / took.p50 / 1e9, "floor_ms": 1e3 * floor, "limit": limit,
        "share": floor / took.p50,
    }  # fmt: skip


def chosen(case: Case, device: str, *, quick: bool, sweep: bool, slow: bool) -> tuple[Point, ...]:
    """Return the points of a case for a run."""
    if sweep:
        return case.swept()
    if quick:
        return tuple(p for p in case.points if ("quick" if device == "cpu" else "cuda-quick") in p.tags)
    return tuple(p for p in case.points if device in p.tags and (slow or "slow" not in p.tags))
