"""What the filter of ``rank_topk`` proves: its margin, and how many candidates it leaves to the exact re-score."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fastkd.core.interactions import Interactions
from fastkd.ops._dispatch import choose
from fastkd.ops.rank_topk import rank_topk

Evidence = Literal["exact", "sampled", "modelled"]

_SAMPLE = 32
_TILE = 1 << 16
_NO_MARGIN = "vectors hold NaN, infinities or scores past 1e37: those users are ranked by canonical scores, slower"
_BF16_RESIDUAL = 1.66e-3
"""Norm of what rounding to bfloat16 takes from a normal vector, as a share of its norm."""


@dataclass(frozen=True)
class Certificate:
    """See :class:`fastkd.ops.TopKExplanation`."""

    relative: float
    margin: float | None
    candidates: float
    evidence: Evidence
    notes: tuple[str, ...]


def certificate(
    shape: tuple[int, int, int, int], dtype: torch.dtype, device: str, fast: bool, exclude: float,
    tables: tuple[Tensor, Tensor] | None, bias: Tensor | None, seen: Interactions | None = None,
) -> Certificate:  # fmt: skip
    """Return the margin and the candidates of a shape; of the very call where its ``tables`` are given."""
    B, N, D, k = shape
    relative = _relative(D, dtype, device, fast)
    if not math.isfinite(relative):
        note = f"no margin is proved at D = {D}: every score is computed canonically, which is slower"
        return Certificate(relative, None, float(N), "modelled", (note,))
    if tables is None or B == 0 or N == 0 or k == 0:
        return Certificate(relative, None, _model(N, D, k, relative, exclude), "modelled", ())
    if device == "cpu" and tables[0].device.type == "cpu" and D > 0 and choose("rank_topk", "auto", "cpu") == "numba":
        return _count(tables, bias, seen, k, relative, fast)
    return _sample(tables, bias, k, relative, fast)


def _relative(D: int, dtype: torch.dtype, device: str, fast: bool) -> float:
    """Return the margin of a user as a share of |u| max|v|."""
    if device == "cpu":
        margins = importlib.import_module("fastkd.kernels.numba._topk_margin")
        kind = torch.float64 if dtype == torch.float64 and not fast else torch.float32
        bound = margins.margins_of(np.ones(1), D, kind, np.zeros(0, dtype=np.float32))
        return float(bound.relative) if bound.usable else math.inf
    # As in kernels/triton/_topk_math.py: sums, then what rounding to bfloat16 takes from both vectors.
    half = fast or dtype in (torch.bfloat16, torch.float16)
    return (D + 32) * 2.0**-22 + (0.0 if half else 2 * _BF16_RESIDUAL)


def _model(N: int, D: int, k: int, relative: float, exclude: float) -> float:
    """Return the expected candidates for normal vectors: scores of a user are normal with deviation |u|."""
    if k == 0 or N == 0:
        return 0.0
    if k >= N or D == 0:
        return float(N)
    # The longest of N normal vectors, and so the margin, in deviations of a score.
    top = math.sqrt(D + 2 * math.sqrt(D * math.log(N)) + 2 * math.log(N))
    normal = NormalDist()
    rest = max(N - exclude, k)
    threshold = normal.inv_cdf(1 - min(k / rest, 1 - 1e-12)) - 2 * relative * top
    return max(float(k), min(rest, rest * (1 - normal.cdf(threshold))))


def _count(
    tables: tuple[Tensor, Tensor], bias: Tensor | None, seen: Interactions | None, k: int, relative: float, fast: bool
) -> Certificate:
    """Run the CPU kernel's filter for all users and return what it leaves."""
    kernel = importlib.import_module("fastkd.kernels.numba.rank_topk")
    indptr, indices = (None, None) if seen is None else seen.to_torch()
    counts, margins = kernel.count_candidates(*tables, k, indptr, indices, bias, fast)
    whole = int((counts == len(tables[1])).sum()) if k < len(tables[1]) else 0
    notes = []
    if not np.isfinite(margins).all():
        notes.append(_NO_MARGIN)
    elif whole:
        notes.append(
            f"ties: {whole:,} of {len(counts):,} users have more items within the margin of the K-th score than a "
            "buffer holds; they are ranked by canonical scores, which is slower"
        )
    return Certificate(relative, float(margins.max()), float(counts.mean()), "exact", tuple(notes))


def _sample(tables: tuple[Tensor, Tensor], bias: Tensor | None, k: int, relative: float, fast: bool) -> Certificate:
    users, items = tables
    norms = torch.linalg.vector_norm(users.float(), dim=1)
    top = max(float(torch.linalg.vector_norm(part.float(), dim=1).max()) for part in torch.split(items, _TILE))
    margins = relative * norms * top
    margin = float(margins.max())
    if not math.isfinite(margin) or margin / relative >= 1e37:
        return Certificate(relative, margin, float(len(items)), "sampled", (_NO_MARGIN,))
    sample = torch.linspace(0, len(users) - 1, min(_SAMPLE, len(users)), device=users.device).long()
    best = rank_topk(users[sample], items, k, item_bias=bias, precision="fast" if fast else "exact").scores[:, -1]
    least = (best.double() - 2 * margins[sample].double()).to(torch.float32)
    picked = users[sample].float()
    found = torch.zeros(len(sample), device=users.device)
    for start in range(0, len(items), _TILE):
        scores = picked @ items[start : start + _TILE].float().t()
        if bias is not None:
            scores += bias[start : start + _TILE].float()
        found += (scores >= least[:, None]).sum(dim=1)
    candidates = float(found.mean())
    notes = []
    if candidates > 3 * k + 512:
        notes.append(
            f"ties: {candidates:,.0f} items a user are within the margin of the K-th score; a user whose buffer they "
            "fill is ranked by canonical scores, which is slower"
        )
    return Certificate(relative, margin, max(candidates, float(k)), "sampled", tuple(notes))
