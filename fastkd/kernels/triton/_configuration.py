"""One way to compile a kernel, as data, so that every one can be compiled and judged on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TARGETS = (80, 90, 100)
"""Compute capabilities (times ten) that every configuration must compile for: A100, H100/H200, B200."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """A kernel with its constants, as a launcher would start it.

    ``name``: unique in its module, e.g. ``"scan-bf16-d64-256x64"``. ``kernel``: the ``triton.jit`` function.
    ``signature``: run-time argument -> Triton type (``"*bf16"``, ``"i32"``). ``constants``: ``tl.constexpr`` argument
    -> value (a run-time argument given None belongs here too). ``unaligned``: run-time arguments that a launch does not
    promise to be divisible by 16. ``scores``: user-item scores made by one trip of the main loop; None where
    instructions per score mean nothing. ``default``: a launcher picks it by itself, so it must not spill.
    ``targets``: capabilities it is meant for. ``options``: the launch's other compiler options, e.g.
    ``{"enable_fp_fusion": False}``. ``wgmma``: its sm_90 code must use the tensor core's warpgroup form.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3
    unaligned: tuple[str, ...] = ()
    scores: int | None = None
    default: bool = True
    targets: tuple[int, ...] = TARGETS
    wgmma: bool = False
