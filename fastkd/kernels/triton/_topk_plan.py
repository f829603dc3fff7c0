"""How ``rank_topk`` runs a shape on a GPU: plain arithmetic, so that it can be explained on any machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

MAX_ITEMS = 2**31 - 2**20
"""Item ids are computed in int32, a tile past the end included."""

PENDING_BYTES = 144 << 20
COPY_BYTES = 24 << 20
FEW_USERS = 64
"""Up to here the scan is bound by reading the table once."""
STEP_ROWS = 128
FEW_PROGRAMS = 256
"""Up to here all programs of ``resolve`` run at once with room to spare, so each gets four warps and all registers."""
TIGHTEN_TILE = 1024
TIGHTEN_OPTIONS: dict[str, Any] = {"num_warps": 4, "maxnreg": 96}
"""With a limit of its own choice ptxas (12.8, sm_90) spills to win an eighth more programs."""
_SORT_TILE = 1024
_GROWTH = 4
_SEGMENT_SECONDS = 16e-6
_INSTRUCTIONS = {64: 1.9, 32: 2.1, 16: 2.7, 8: 4.0}
"""Instructions per score of the scan by group size: ``benchmarks/compile_report.py``, less the branch not taken."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a call does; all of it follows from shapes, none from values.

    ``path``: ``"user-stationary"`` (tiles of users held, prepared items streamed) or ``"item-streaming"`` (few users,
    the table read once as it is). ``copies``: items are filtered on a bfloat16 copy, made a segment at a time.
    ``users_per_chunk``, ``chunks``: the batch in pieces that share scratch. ``segments``: ends of the catalogue's
    pieces, in items; the threshold rises after each. ``capacity``: groups a user can have pending; ``retained``: how
    many are kept from one segment to the next before they are resolved. ``keys``, ``waiting``: a user's exact keys and
    unscored candidates. ``launches``: kernels started in all.
    """

    path: str
    copies: bool
    block_users: int
    block_items: int
    block_width: int
    width: int
    group: int
    num_warps: int
    num_stages: int
    users_per_chunk: int
    chunks: int
    segments: tuple[int, ...]
    capacity: int
    retained: int
    keys: int
    waiting: int
    sort_tile: int
    scratch_bytes: int
    launches: int

    @property
    def inline(self) -> bool:
        """Whether the scan reads the caller's table and makes margins by itself."""
        return self.path == "item-streaming"


def plan_rank_topk(B: int, N: int, D: int, k: int, dtype: torch.dtype, has_exclude: bool, capability: int = 90) -> Plan:
    """Return the plan for B users, N items, D dimensions, k results; pure and free of devices.

    ``capability``: compute capability times ten. ``has_exclude`` changes nothing yet: exclusions cost by value.
    """
    half, inline = dtype in (torch.bfloat16, torch.float16), B <= FEW_USERS
    copies = not inline and (not half or D % 8 != 0 or D == 0)
    width = _width(D)
    group = _group_size(N, D, k, 2 if half else dtype.itemsize, inline)
    block_users, block_items, block_width, warps, stages = _blocks(B, width, group, inline, capability)
    if copies or inline:
        width = _up(max(D, 16), block_width)
    waiting = 2 * STEP_ROWS
    keys = _up(min(2 * k + 256, N) + STEP_ROWS, 64)
    other_bytes = 8 * keys + 4 * waiting + 2 * width + 32
    capacity, retained = _buffers(B, N, k, group, block_items, other_bytes)
    row_bytes = 8 * capacity + other_bytes
    step = block_users if block_users * row_bytes <= PENDING_BYTES else 16  # very long lists: fewer users at a time
    most = max(16, PENDING_BYTES // row_bytes // step * step)
    chunks = max(1, -(-B // most))
    users = min(max(B, 1), _up(-(-B // chunks), step)) if B else 0
    segments = _segments(N, k, group, block_items, capacity - retained, width if copies else 0)
    copy_rows = max((b - a for a, b in zip((0, *segments), segments, strict=False)), default=0)
    copy_bytes = 2 * width * _up(copy_rows, block_items) if copies else 0
    per_segment = 3 + copies
    launches = chunks * (3 + per_segment * len(segments)) + (0 if copies or inline else 1)
    return Plan(
        path="item-streaming" if inline else "user-stationary", copies=copies,
        block_users=block_users, block_items=block_items, block_width=block_width, width=width,
        group=group, num_warps=warps, num_stages=stages,
        users_per_chunk=users, chunks=chunks if B else 0, segments=segments, capacity=capacity, retained=retained,
        keys=keys, waiting=waiting, sort_tile=min(_SORT_TILE, _power(keys)),
        scratch_bytes=users * row_bytes + copy_bytes + 8, launches=launches if B and k else 0,
    )  # fmt: skip


def resolve_launch(users: int, D: int, dtype: torch.dtype, *, fast: bool) -> tuple[dict[str, int], dict[str, Any]]:
    """Return (constants, compiler options) of ``resolve`` for a chunk of ``users``.

    Many users hide each other's waiting: one warp each, which needs neither barriers nor the shared memory of
    reductions across warps. Those cost registers too: what a warp reads there under a predicate stays live around
    the whole loop, and with four warps ptxas spills other values to keep it, unless it is given all registers. With
    one warp it does so on sm_100 where values are rounded on the way (``fast``).
    """
    few = users <= FEW_PROGRAMS
    constants = {"BD": min(64 if few else 16, _width(D)), "R": STEP_ROWS if few else STEP_ROWS // 2}
    options: dict[str, Any] = {"num_warps": 4, "maxnreg": 255} if few else {"num_warps": 1}
    if fast and not few:
        options["maxnreg"] = 160
    if dtype == torch.float64:  # products must be rounded before they are added
        options["enable_fp_fusion"] = False
    return constants, options


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _power(value: int) -> int:
    return 1 << max(0, value - 1).bit_length()


def _width(D: int) -> int:
    return max(16, _power(D))


def _group_size(N: int, D: int, k: int, itemsize: int, inline: bool) -> int:
    """Return the group size that makes scan plus re-score cheapest.

    Per user: the scan issues instructions for N scores; the re-score reads about 1.4 k groups of rows from memory;
    buffers hold fewer items of smaller groups, so there are more segments to start and drain.
    """
    if inline:
        return 32 if k <= 1024 else 16

    def cost(group: int) -> float:
        stream = N * _INSTRUCTIONS[group] / 24.7e12
        gather = 1.4 * k * group * max(D, 16) * itemsize / 3e12
        return stream + gather + N * 8 / group / PENDING_BYTES * _SEGMENT_SECONDS

    # A tile must hold four groups; at 256 dimensions it is 64 items wide.
    return min((g for g in _INSTRUCTIONS if g <= 16 or D <= 128), key=cost)


def _blocks(B: int, width: int, group: int, inline: bool, capability: int) -> tuple[int, int, int, int, int]:
    """Return (users, items and dimensions of a tile, warps, pipeline stages).

    One tile of users is held for the whole stream, so a large one saves reads of items from L2; two blocks on a
    multiprocessor hide each other's maxima behind matrix products. Widths past 256 go in pieces of 64.
    """
    # 227 KiB of shared memory on sm_90 and sm_100, 163 on sm_80, 99 on the small ones.
    old = capability < 90  # sums of mma.sync leave fewer registers: twice the warps
    whole = 256 if capability in (80, 90, 100, 103) else 128
    block_width = width if width <= whole else 64
    if inline:
        return 16 if B <= 16 else 32 if B <= 32 else 64, 128, min(block_width, 128), 8 if old and B > 32 else 4, 2
    if block_width < width:
        return 128, 64 if old and group <= 16 else 128, 64, 8, 3
    if width == 256:
        return 128, 64, 256, 8, 2
    if group == 64:
        return 128, 256, block_width, 8, 3 if width <= 64 else 2
    return 128, 128, block_width, 8 if old else 4, 3 if width <= 64 else 2


def _buffers(B: int, N: int, k: int, group: int, block_items: int, other_bytes: int) -> tuple[int, int]:
    """Return (capacity, retained) per user: a segment brings at most capacity - retained groups."""
    tile = block_items // group
    every = _up(N, block_items) // group
    retained = min(_up(2 * k + 128, 64), _up(every, 64))
    wanted = (PENDING_BYTES // max(1, min(B, 4096)) - other_bytes) // 8 - 256
    room = max(3 * retained, min(wanted, 1 << 20))
    capacity = retained + _up(min(max(room - retained, tile), every), max(tile, 16))
    return capacity, retained


def _segments(N: int, k: int, group: int, block_items: int, most: int, copy_width: int) -> tuple[int, ...]:
    """Return where segments end. They grow geometrically up to what buffers (and the copy) hold."""
    largest = most * group // block_items * block_items
    if copy_width:
        largest = min(largest, COPY_BYTES // (2 * copy_width) // block_items * block_items)
    largest = max(largest, block_items)
    size, end, ends = min(largest, _up(max(6 * k, 512) * group, block_items)), 0, []
    while end < N:
        end = min(N, end + size)
        ends.append(end)
        size = min(largest, _GROWTH * end // block_items * block_items)
    return tuple(ends)
