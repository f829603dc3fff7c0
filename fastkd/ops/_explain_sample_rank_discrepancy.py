"""What a refresh of rank-discrepancy draws will cost: its path, work, memory and time by a roofline model."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fastkd.core.errors import did_you_mean
from fastkd.kernels._discrepancy import HEAD, SLOPE, acceptance, pool_size
from fastkd.ops._discrepancy_checks import Direction, check_options
from fastkd.ops._dispatch import choose
from fastkd.ops._explain_rank_topk import _capability, _size, _time
from fastkd.ops._machines import GPUS, Machine, this_cpu

# What a roofline has no word for, in seconds of one CPU core, fitted at 25 thousand to 1 million items: a score that is
# counted, and settled by its exact value where one of C targets is near (times sqrt(C D)); one made exactly (for each
# dimension) and sorted (while the passes stay in the cache).
_COUNT_SECONDS, _SETTLE_SECONDS, _EXACT_SECONDS, _SORT_SECONDS = 2e-9, 6e-11, 1.8e-10, 1.2e-8
_SCREEN_INSTRUCTIONS, _SEARCH_INSTRUCTIONS = 2.6, 26.0
"""Lane instructions a score of the first sweep, and of the second for each step of its search, off the sm_90 code."""


@dataclass(frozen=True, kw_only=True)
class DiscrepancyExplanation:
    """The plan of a refresh and its predicted cost; ``str()`` is for people.

    ``shape``: (users, items, teacher's D, student's D, draws a user). ``proposals``: items looked at for each user; N
    where all are ranked. ``rounds``: sweeps of the catalogue per model and chunk. ``flops``, ``bytes_moved`` (to and
    from main memory) and ``seconds`` are those of the whole refresh; a chunk's are a ``chunks``-th. ``scratch_bytes``:
    held beyond arguments and results, the same for any number of chunks. ``limit``: what bounds ``seconds``.
    """

    shape: tuple[int, int, int, int, int]
    direction: str
    device: str
    backend: str
    algorithm: str
    proposals: int
    rounds: int
    chunk_users: int
    chunks: int
    flops: float
    bytes_moved: float
    scratch_bytes: int
    seconds: float
    limit: str
    machine: Machine
    notes: tuple[str, ...]

    def __str__(self) -> str:
        count, items, teacher, student, draws = self.shape
        share = 1 / max(self.chunks, 1)
        lines = [
            f"sample_rank_discrepancy {self.direction}: {count:,} users x {items:,} items, "
            f"D = {teacher} and {student}, {draws:,} draws a user",
            f"  path     {self.backend} on {self.device}: {self.algorithm}",
            f"           {self.proposals:,} items ranked a user, {self.rounds} sweep(s) of each model's items a chunk",
            f"  chunk    {self.chunk_users:,} users: {self.flops * share:.3g} FLOP, {_size(self.bytes_moved * share)} "
            f"moved, {_time(self.seconds * share)}",
            f"  whole    {self.chunks:,} chunk(s): {self.flops:.3g} FLOP, {_size(self.bytes_moved)} moved, "
            f"{_time(self.seconds)} predicted, bound by {self.limit}",
            f"  scratch  {_size(self.scratch_bytes)}, however many chunks",
            f"  machine  {self.machine.name}; {self.machine.source}",
            *(f"  note     {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def explain_sample_rank_discrepancy(
    B: int,
    N: int,
    D_teacher: int,
    D_student: int,
    n: int,
    *,
    direction: Direction,
    epsilon: float,
    device: Literal["cpu", "cuda"] = "cpu",
    architecture: int | str | None = None,
    chunk: int = 4096,
) -> DiscrepancyExplanation:
    """Return what drawing ``n`` items for each of B users by :func:`fastkd.ops.sample_rank_discrepancy` costs.

    Args:
        B: users of the whole refresh.
        N: items.
        D_teacher: dimensions of the teacher's tables (float32).
        D_student: dimensions of the student's.
        n: draws a user.
        direction: as in ``sample_rank_discrepancy``.
        epsilon: likewise; steep exponential weights rank all items.
        device: where the tables are. ``"cuda"`` needs no GPU here: the plan follows from the shape.
        architecture: 80, 90, 100 or ``"sm_90"``; None is the GPU at hand, else 90.
        chunk: users of one call. BD's refresh calls with at most 4096.

    Returns:
        :class:`DiscrepancyExplanation`. Times are predictions, on the CPU within a factor of 2.5 of what was measured
        at 25 thousand to 1 million items; users whose proposals turn out too few come on top.

    Raises:
        ValueError: sizes or options that do not fit.
    """
    for name, value in (("B", B), ("N", N), ("D_teacher", D_teacher), ("D_student", D_student), ("n", n)):
        if isinstance(value, bool) or not isinstance(value, int) or value < (name == "N"):
            raise ValueError(f"{name} must be an integer of at least {int(name == 'N')}, got {value!r}")
    if isinstance(chunk, bool) or not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk must be an integer of at least 1, got {chunk!r}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}.{did_you_mean(str(device), ('cpu', 'cuda'))}")
    check_options(direction, epsilon, 0, 1)
    users = min(chunk, max(B, 1))
    chunks = -(-B // users)
    plan = _on_gpu if device == "cuda" else _on_cpu
    one = plan(users, N, D_teacher, D_student, n, acceptance(direction, epsilon, N), architecture)
    whole = {name: one.pop(name) * (B / users) for name in ("flops", "bytes_moved", "seconds")}
    one["scratch_bytes"] += 8 * N * (1 + (direction == "student_to_teacher"))
    shape = (B, N, D_teacher, D_student, n)
    return DiscrepancyExplanation(
        shape=shape, direction=direction, device=device, chunk_users=users, chunks=chunks, **one, **whole
    )


def _on_gpu(
    B: int, N: int, teacher: int, student: int, n: int, passing: tuple[bool, float], architecture: int | str | None
) -> dict[str, Any]:
    rejects, floor = passing
    machine = GPUS[_capability(architecture)]
    tables = 4.0 * (N + B) * (teacher + student)
    if not rejects:
        step = max(1, (1 << 24) // N)
        moved = B * N * (60.0 + 16.0 * (teacher + student)) + tables
        flops = 2.0 * B * N * (teacher + student)
        return _path(
            "triton", "all items ranked by two sorts, draws by inversion", N, -(-B // step), flops, moved,
            80 * min(B, step) * N, moved / machine.bandwidth, "memory bandwidth", machine,
            ("scores are made in float64 a dimension at a time",),
        )  # fmt: skip
    need = min(pool_size(n, floor), SLOPE * (n + HEAD))
    width = min(4096, -(-need // 32) * 32)
    rounds = -(-need // width)
    flops = 2.0 * rounds * B * N * (teacher + student)
    moved = rounds * (tables * 3 + 40.0 * B * width) + 8.0 * B * n
    instructions = 2 * (_SCREEN_INSTRUCTIONS + _SEARCH_INSTRUCTIONS * width.bit_length())
    issue = rounds * B * N * instructions / machine.instructions
    compute, memory = flops / machine.flops + issue, moved / machine.bandwidth
    limit = "memory bandwidth" if memory > compute else "instructions" if issue > compute / 2 else "tensor cores"
    sweeps = -(-N // max(1, 128 * ((1 << 24) // B)))
    scratch = int(4 * (N + B) * max(teacher, student) + 60 * B * width + (1 << 24))
    return _path(
        "triton", "proposals ranked by a counting sweep under each model, accepted by weight", width, rounds, flops,
        moved, scratch, max(compute, memory) + machine.launch * rounds * (20 + 6 * sweeps), limit, machine,
        ("as if every tile needed the second sweep, which targets all over the ranking come near",),
    )  # fmt: skip


def _on_cpu(
    B: int, N: int, teacher: int, student: int, n: int, passing: tuple[bool, float], architecture: int | str | None
) -> dict[str, Any]:
    rejects, floor = passing
    backend, threads = choose("sample_rank_discrepancy", "auto", "cpu"), torch.get_num_threads()
    machine = this_cpu(max(teacher, student), False, threads)
    flops, tables = 2.0 * B * N * (teacher + student), 4.0 * (N + B) * (teacher + student)
    if backend == "reference":
        return _path(
            backend, "all items ranked by sorts, one user after the other", N, 1, flops, 80.0 * B * N + tables,
            100 * max(N, 1 << 21), B * N * 1e-6, "sorting", machine, ("numba is not installed; much slower",),
        )  # fmt: skip
    kernel = importlib.import_module("fastkd.kernels.numba.sample_rank_discrepancy")
    need = pool_size(n, floor)
    if rejects and need * kernel._POOL_SHARE <= N:
        blocks = math.ceil(B * need / kernel._POOL_CELLS)
        counted = B * 2 * N * (_COUNT_SECONDS + _SETTLE_SECONDS * (need * (teacher + student)) ** 0.5) / threads
        product = flops / machine.flops
        return _path(
            backend, "proposals ranked by a counting sweep under each model, accepted by weight", need, blocks, flops,
            blocks * tables, 40 * min(B * need, kernel._POOL_CELLS) + (1 << 20) * threads, product + counted,
            "matrix products" if product > counted else "counting", machine, (),
        )  # fmt: skip
    exact, sort = _EXACT_SECONDS * (teacher + student), 2 * _SORT_SECONDS * min(max(1.0, (N / 1e5) ** 0.5), 4.0)
    seconds, scores = B * N * (exact + sort) / threads, exact > sort
    passes = -(-B // 8)
    return _path(
        backend, "all items scored exactly and sorted, 8 users at a time", N, passes, flops,
        passes * tables + 100.0 * B * N, int(4 * N * (teacher + student)) + 120 * N * threads, seconds,
        "exact scores" if scores else "sorting", machine, (),
    )  # fmt: skip


def _path(
    backend: str, algorithm: str, proposals: int, rounds: int, flops: float, moved: float, scratch: int,
    seconds: float, limit: str, machine: Machine, notes: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    return {
        "backend": backend, "algorithm": algorithm, "proposals": proposals, "rounds": rounds, "flops": flops,
        "bytes_moved": moved, "scratch_bytes": scratch, "seconds": seconds, "limit": limit, "machine": machine,
        "notes": notes,
    }  # fmt: skip
