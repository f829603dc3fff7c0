"""What ``rank_topk`` will do for a shape: the path, its cost by a roofline model, and what its filter proves."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from fastkd.core.errors import did_you_mean
from fastkd.core.interactions import Interactions
from fastkd.ops._certificate import Evidence, certificate
from fastkd.ops._dispatch import choose
from fastkd.ops._machines import GPUS, Machine, this_cpu
from fastkd.ops.rank_topk import check_exclude, check_k, check_precision

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_FILTER = "filter on {kind} scores, proved margin, canonical re-score"
# Costs that a roofline has no word for, on the CPU: a comparison of a score in memory, a number of the table laid out
# for registers, a candidate kept, a candidate re-scored from a table that caches hold or do not, a tile's calls.
# Modelled: from one machine.
_SCAN_SECONDS, _LAYOUT_SECONDS, _KEEP_SECONDS, _TILE_SECONDS = 1.3e-10, 2e-10, 8e-9, 2e-5
_NEAR_SECONDS, _FAR_SECONDS, _NEAR_BYTES = 3e-8, 1.5e-7, 16 << 20


_CANDIDATES: dict[Evidence, str] = {
    "exact": "{:,.1f} candidates a user are re-scored (exact: counted over all of these users)",
    "sampled": "about {:,.0f} candidates a user are re-scored (modelled filter, counted on a sample of these users)",
    "modelled": "about {:,.0f} candidates a user are re-scored (modelled: Gaussian scores)",
}


@dataclass(frozen=True, kw_only=True)
class TopKExplanation:
    """The plan of a call, its predicted cost and its certificate; ``str()`` is for people.

    ``blocks``: named sizes of the path. ``segments``: pieces the catalogue is cut into. ``bytes_moved``: to and from
    main memory. ``scratch_bytes``: held beyond arguments and results. ``limit``: what bounds ``seconds``.
    ``relative_margin``: how far a filter score can be from the canonical one, as a share of |u| max|v|. ``margin``:
    the largest of the users', in scores, where tables were given. ``candidates``: mean number per user that passes
    the filter and is re-scored. ``evidence``: "exact", the counts and the margin of that very call; "sampled", on
    32 users; or "modelled", for Gaussian scores. All else here is a model: of traffic, of memory, of time.
    """

    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    device: str
    precision: str
    backend: str
    algorithm: str
    blocks: dict[str, int | str]
    segments: int
    flops: float
    bytes_moved: float
    scratch_bytes: int
    seconds: float
    limit: str
    machine: Machine
    relative_margin: float
    margin: float | None
    candidates: float
    evidence: Evidence
    notes: tuple[str, ...]

    def __str__(self) -> str:
        count, items, dim, k = self.shape
        blocks = ", ".join(f"{name} {value}" for name, value in self.blocks.items())
        proved = "proved" if self.device == "cpu" else "modelled: normal vectors; the kernel measures its own"
        margin = f"{self.relative_margin:.2g} of |u| max|v| ({proved})"
        if self.margin is not None:
            margin += f", at most {self.margin:.3g} for these users"
        lines = [
            f"rank_topk: {count:,} users x {items:,} items, D = {dim}, K = {k}, {self.dtype}, {self.precision}",
            f"  path         {self.backend} on {self.device}: {self.algorithm}",
            f"               {blocks}; segments {self.segments}",
            f"  work         {self.flops:.3g} FLOP, {_size(self.bytes_moved)} moved, "
            f"{_size(self.scratch_bytes)} scratch",
            f"  time         {_time(self.seconds)} predicted (modelled), bound by {self.limit}",
            f"               {self.machine.name}; {self.machine.source}",
            f"  certificate  a filter score is within {margin}",
            f"               {_CANDIDATES[self.evidence].format(self.candidates)}",
            *(f"  note         {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def explain_rank_topk(
    B: int,
    N: int,
    D: int,
    k: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: Literal["cpu", "cuda"] = "cpu",
    architecture: int | str | None = None,
    exclude: float | Interactions = 0,
    precision: Literal["exact", "fast"] = "exact",
    users: Tensor | None = None,
    items: Tensor | None = None,
    item_bias: Tensor | None = None,
) -> TopKExplanation:
    """Return what :func:`fastkd.ops.rank_topk` does for B users, N items, D dimensions and K = ``k``.

    Args:
        B: number of users.
        N: number of items.
        D: dimensions.
        k: results per user, 0 <= k <= N.
        dtype: of both tables; that of ``users`` if they are given.
        device: where the tables are. ``"cuda"`` needs no GPU here: the plan follows from the shape.
        architecture: 80, 90, 100 or ``"sm_90"``; None is the GPU at hand, else 90.
        exclude: mean number of items left out per user, or which, as in ``rank_topk``.
        precision: as in ``rank_topk``.
        users: Float[B, D], with ``items``: the margin and the candidates are then those of the very call, found by
            running its filter (one pass over the items; for another device than the tables', on 32 of the users).
        items: Float[N, D].
        item_bias: Float[N], added to the scores.

    Returns:
        :class:`TopKExplanation`. Times are predictions: a roofline, with the machine's figures and their source.

    Raises:
        ValueError, TypeError: sizes, dtypes or tables that do not fit.
    """
    seen, exclude = (exclude, exclude.nnz / max(B, 1)) if isinstance(exclude, Interactions) else (None, exclude)
    check_exclude(seen, B, N)
    tables = _check(B, N, D, exclude, users, items, item_bias)
    k = check_k(k, N)
    check_precision(precision)
    if tables is not None:
        dtype = tables[0].dtype
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, _DTYPES))}, got {dtype}")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}.{did_you_mean(str(device), ('cpu', 'cuda'))}")
    fast = precision == "fast" and dtype in (torch.float32, torch.float64)
    proof = certificate((B, N, D, k), dtype, device, fast, exclude, tables, item_bias, seen)
    known: dict[str, Any] = {
        "shape": (B, N, D, k), "dtype": dtype, "device": device, "precision": precision, "flops": 2.0 * B * N * D,
        "relative_margin": proof.relative, "margin": proof.margin, "candidates": proof.candidates,
        "evidence": proof.evidence,
    }  # fmt: skip
    if device == "cuda":
        path = _on_gpu(B, N, D, k, dtype, fast, exclude, architecture, proof.candidates)
    else:
        path = _on_cpu(B, N, D, k, dtype, fast, exclude, proof.candidates)
    notes = (*path.pop("notes"), *proof.notes)
    return TopKExplanation(**known, **path, notes=notes)


def _check(
    B: int, N: int, D: int, exclude: float, users: Tensor | None, items: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    for name, value in (("B", B), ("N", N), ("D", D)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be an integer of at least 0, got {value!r}")
    if not 0 <= exclude <= N:
        raise ValueError(f"exclude must be a mean number of items in [0, {N}], got {exclude!r}")
    if (users is None) != (items is None):
        raise ValueError("users and items go together: give both tables, or neither")
    if users is None or items is None:
        return None
    if tuple(users.shape) != (B, D) or tuple(items.shape) != (N, D):
        raise ValueError(f"tables must be {[B, D]} and {[N, D]}, got {list(users.shape)} and {list(items.shape)}")
    if bias is not None and tuple(bias.shape) != (N,):
        raise ValueError(f"item_bias must be {[N]}, got {list(bias.shape)}")
    if users.dtype != items.dtype:
        raise TypeError(f"users and items must have one dtype, got users {users.dtype} and items {items.dtype}")
    return users.detach(), items.detach()


def _on_cpu(
    B: int, N: int, D: int, k: int, dtype: torch.dtype, fast: bool, exclude: float, candidates: float
) -> dict[str, Any]:
    backend = choose("rank_topk", "auto", "cpu")
    double = dtype == torch.float64 and not fast
    threads = torch.get_num_threads()
    machine = this_cpu(min(max(D, 1), 1024), double, threads)
    flops, out = 2.0 * B * N * D, 12.0 * B * k
    if backend == "reference":
        note = "numba is not installed: the reference holds scores of all items and sorts them; much slower"
        moved, chunk = 40.0 * B * N + dtype.itemsize * N * D, max(1, (1 << 22) // max(N, 1))
        seconds = 30 * flops / machine.flops + moved / machine.bandwidth
        return _path(backend, "scores in float64, two sorts", {"users": chunk}, 1, moved + out, 40 * chunk * N, seconds,
                     "memory", machine, (note,))  # fmt: skip
    planning = importlib.import_module("fastkd.kernels.numba._topk_plan")
    products = importlib.import_module("fastkd.kernels.numba._product")
    own = products.multiplies(torch.float64 if double else torch.float32)
    plan = planning.plan_rank_topk(B, N, D, k, 8 if double else 4, threads, own=own)
    passes = math.ceil(B / plan.block)
    moved = float(passes * N * D * dtype.itemsize + out + 4 * exclude * B)
    compute, memory = flops / machine.flops, moved / machine.bandwidth
    rounds = math.log(max(N / max(3 * k, 1), 1.0)) / math.log(3) if k else 0.0
    rescore = _NEAR_SECONDS if N * D * dtype.itemsize <= _NEAR_BYTES else _FAR_SECONDS
    tiles = passes * plan.spans * math.ceil(N / (plan.spans * plan.width)) * _TILE_SECONDS
    kept = (3 * k + 2 * k * rounds) * _KEEP_SECONDS
    scan = (
        _LAYOUT_SECONDS * D / plan.block
        if products.multiplies(torch.float64 if double else torch.float32)
        else _SCAN_SECONDS
    )
    select = (B * N * scan + B * kept + B * candidates * rescore + tiles) / plan.threads
    copied = fast or dtype in (torch.bfloat16, torch.float16)
    notes = ["fast saves nothing on the CPU: it rounds each tile and multiplies in float32"] if fast else []
    if copied and not fast:
        notes.append("half precision is widened tile by tile; float32 tables are faster on the CPU")
    if plan.threads == 1 and threads > 1:
        notes.append("too small to share among threads")
    blocks = {"users": plan.block, "items": plan.width, "buffer": plan.capacity, "threads": plan.threads}
    kind = "float64" if double else "float32"
    return _path(
        backend, _FILTER.format(kind=kind), blocks, plan.spans, moved,
        plan.scratch_bytes(D, 8 if double else 4, copied=copied), max(compute, memory) + select,
        "matrix products" if compute >= memory else "memory bandwidth", machine, tuple(notes),
    )  # fmt: skip


def _on_gpu(
    B: int, N: int, D: int, k: int, dtype: torch.dtype, fast: bool, exclude: float, architecture: int | str | None,
    candidates: float,
) -> dict[str, Any]:  # fmt: skip
    capability = _capability(architecture)
    machine = GPUS[capability]
    planning = importlib.import_module("fastkd.kernels.triton._topk_plan")
    plan = planning.plan_rank_topk(B, N, D, k, dtype, exclude > 0, capability)
    item_bytes = float(N * D * dtype.itemsize)
    moved = plan.chunks * item_bytes * (2 if plan.copies else 1) + 12.0 * B * k + 4 * exclude * B
    moved += 2.0 * B * candidates * plan.group * D * dtype.itemsize / 2
    compute = 2.0 * B * N * plan.width / machine.flops
    issue = B * N * planning._INSTRUCTIONS[plan.group] / machine.instructions
    memory = moved / machine.bandwidth
    bound = {"matrix products": compute, "instruction issue": issue, "memory bandwidth": memory}
    limit = max(bound, key=lambda name: bound[name])
    launches = plan.launches * machine.launch
    if launches > bound[limit]:
        limit = "kernel launches"
    notes = []
    if plan.path == "item-streaming":
        notes.append(f"{B} users are few: the table is read once and bandwidth decides")
    if B and N and k * plan.group > N / 4:
        notes.append("k is a large share of the catalogue: most groups are re-scored, and the filter helps little")
    if dtype == torch.float64 and not fast:
        notes.append("float64 is filtered in bfloat16 and re-scored in float64")
    blocks = {
        "path": plan.path, "users": plan.block_users, "items": plan.block_items, "width": plan.block_width,
        "group": plan.group, "warps": plan.num_warps, "chunks": plan.chunks,
    }  # fmt: skip
    kind = "float16" if dtype == torch.float16 else "bfloat16"
    return _path(
        "triton", _FILTER.format(kind=f"{kind} group maxima of"), blocks, len(plan.segments), moved,
        plan.scratch_bytes, max(compute + issue, memory) + launches, limit, machine, tuple(notes),
    )  # fmt: skip


def _path(
    backend: str, algorithm: str, blocks: dict[str, int], segments: int, moved: float, scratch: int, seconds: float,
    limit: str, machine: Machine, notes: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    return {
        "backend": backend, "algorithm": algorithm, "blocks": blocks, "segments": segments, "bytes_moved": moved,
        "scratch_bytes": scratch, "seconds": seconds, "limit": limit, "machine": machine, "notes": notes,
    }  # fmt: skip


def _capability(architecture: int | str | None) -> int:
    if architecture is None:
        if not torch.cuda.is_available():
            return 90
        major, minor = torch.cuda.get_device_capability()
        return max((known for known in GPUS if known <= 10 * major + minor), default=80)
    text = str(architecture).removeprefix("sm_")
    if not text.isdigit() or int(text) not in GPUS:
        raise ValueError(f"architecture must be one of {', '.join(map(str, GPUS))}, got {architecture!r}")
    return int(text)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
