"""The kernels of ``rank_topk`` as its plans start them, for ``benchmarks/compile_report.py``."""

from __future__ import annotations

from typing import Any

import torch

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._topk_order import place_tiles, sort_tiles
from fastkd.kernels.triton._topk_plan import TIGHTEN_OPTIONS, TIGHTEN_TILE, Plan, plan_rank_topk, resolve_launch
from fastkd.kernels.triton._topk_resolve import resolve
from fastkd.kernels.triton._topk_scan import prepare_items, prepare_users, scan
from fastkd.kernels.triton._topk_tighten import tighten

_NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16"}
_MILLION = 1_000_000


def _integers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "i32")


def _launch(options: dict[str, Any]) -> dict[str, Any]:
    """Return a launch's options as fields of a configuration."""
    return {"num_warps": options["num_warps"], "options": {n: v for n, v in options.items() if n != "num_warps"}}


def _scan(
    D: int, k: int, dtype: torch.dtype,
    *, B: int = 4096, N: int = _MILLION, bias: bool = False, fast: bool = False, capability: int = 90,
) -> Configuration:  # fmt: skip
    p = plan_rank_topk(B, N, D, k, dtype, False, capability)
    operand = "bf16" if dtype not in (torch.bfloat16, torch.float16) else _NAMES[dtype]
    table = _NAMES[dtype] if p.inline else operand
    signature = {
        "u_ptr": f"*{operand}", "v_ptr": f"*{table}", "norm_ptr": "*fp32", "tau_ptr": "*fp32", "count_ptr": "*i32",
        "pend_ptr": "*i64", "top_ptr": "*i32", **_integers("B", "N", "C", "first", "tiles", "per", "base"),
    }  # fmt: skip
    constants: dict[str, Any] = {
        "D": D, "V": p.width if p.copies else D, "W": p.width, "BM": p.block_users, "BN": p.block_items,
        "BD": p.block_width, "G": p.group, "FAST": fast, "INLINE": p.inline,
    }  # fmt: skip
    if bias:
        signature["bias_ptr"] = "*fp32"
    else:
        constants["bias_ptr"] = None
    kind = f"scan{'-sm80' if capability == 80 else ''}{'-fast' if fast else ''}-{_NAMES[dtype]}"
    shape = f"{p.block_users}x{p.block_items}x{p.block_width}-g{p.group}-w{p.num_warps}"
    return Configuration(
        name=f"{kind}-b{B}-d{D}-k{k}{'-bias' if bias else ''}-{shape}",
        kernel=scan, signature=signature, constants=constants, num_warps=p.num_warps, num_stages=p.num_stages,
        unaligned=("B", "N", "tiles", "per"), scores=p.block_users * p.block_items, wgmma=p.block_users >= 64,
        targets=(80,) if capability == 80 else (90, 100),
    )  # fmt: skip


def _prepare(D: int, dtype: torch.dtype, *, fast: bool = False) -> list[Configuration]:
    p = plan_rank_topk(4096, _MILLION, D, 100, dtype, False)
    operand = "bf16" if dtype not in (torch.bfloat16, torch.float16) else _NAMES[dtype]
    shape = {"D": D, "W": p.width, "BR": 32, "BD": min(p.block_width, 128), "FAST": fast}
    name = f"{'fast-' if fast else ''}{_NAMES[dtype]}-d{D}"
    users = Configuration(
        name=f"prepare-users-{name}", kernel=prepare_users, constants=shape, unaligned=("B",),
        signature={
            "x_ptr": f"*{_NAMES[dtype]}", "copy_ptr": f"*{operand}", "norm_ptr": "*fp32", "tau_ptr": "*fp32",
            "count_ptr": "*i32", "B": "i32",
        },
    )  # fmt: skip
    signature = {"x_ptr": f"*{_NAMES[dtype]}", "top_ptr": "*i32", **_integers("N", "first", "rows_out", "per")}
    constants: dict[str, Any] = dict(shape)
    if p.copies:
        signature["copy_ptr"] = f"*{operand}"
    else:
        constants["copy_ptr"] = None
    items = Configuration(
        name=f"prepare-items-{name}", kernel=prepare_items, signature=signature, constants=constants, unaligned=("N",)
    )
    return [users, items]


def _finish(
    D: int, k: int, dtype: torch.dtype, *, B: int = 4096, exclude: bool = True, fast: bool = False
) -> list[Configuration]:
    p = plan_rank_topk(B, _MILLION, D, k, dtype, exclude)
    rows = {"indptr_ptr": "*i64", "indices_ptr": "*i32"} if exclude else {}
    none: dict[str, Any] = {} if exclude else {"indptr_ptr": None, "indices_ptr": None}
    state = {"norm_ptr": "*fp32", "tau_ptr": "*fp32", "count_ptr": "*i32", "pend_ptr": "*i64", "top_ptr": "*i32"}
    name = f"{'fast-' if fast else ''}{_NAMES[dtype]}-b{B}-d{D}-k{k}{'-exclude' if exclude else ''}"
    shape = {"D": D, "G": p.group, "INLINE": p.inline}
    found = [
        Configuration(
            name=f"tighten-{name}", kernel=tighten, unaligned=("N", "k", "row0"),
            signature={**state, **rows, **_integers("N", "C", "k", "row0")},
            constants={**shape, **none, "T": TIGHTEN_TILE}, **_launch(TIGHTEN_OPTIONS),
        )
    ]  # fmt: skip
    table = {"x_ptr": f"*{_NAMES[dtype]}", "items_ptr": f"*{_NAMES[dtype]}", "bias_ptr": "*fp32"}
    buffers = {"cand_ptr": "*i32", "key_ptr": "*i64"}
    blocks, options = resolve_launch(p.users_per_chunk, D, dtype, fast=fast)
    numbers = _integers("N", "C", "Q", "E", "k", "row0", "limit")
    found.extend(
        Configuration(
            name=f"resolve-{name}{'-last' if last else ''}",
            kernel=resolve,
            signature={**table, **state, **buffers, **rows, **numbers},
            constants={**shape, **none, **blocks, "FAST": fast, "LAST": last},
            unaligned=("N", "k", "row0", "limit"),
            **_launch(options),
        )
        for last in (False, True)
    )
    return found


def _order(k: int) -> list[Configuration]:
    p: Plan = plan_rank_topk(4096, _MILLION, 64, k, torch.bfloat16, False)
    sizes = {"T": p.sort_tile}
    return [
        Configuration(
            name=f"sort-k{k}", kernel=sort_tiles, constants=sizes,
            signature={"key_ptr": "*i64", "count_ptr": "*i32", "E": "i32"},
        ),
        Configuration(
            name=f"place-k{k}", kernel=place_tiles, constants={**sizes, "STEPS": p.sort_tile.bit_length()},
            signature={"key_ptr": "*i64", "score_ptr": "*fp32", "id_ptr": "*i64", **_integers("E", "k", "tiles")},
            unaligned=("k", "tiles"),
        ),
    ]  # fmt: skip


_BF16, _FP32, _FP64 = torch.bfloat16, torch.float32, torch.float64

CONFIGURATIONS = (
    *(_scan(D, 100, _BF16, capability=c) for D in (32, 64, 128, 256, 512) for c in (80, 90)),
    _scan(64, 100, _FP32),
    *(_scan(64, 100, _BF16, bias=True, capability=c) for c in (80, 90)),
    _scan(64, 10, _BF16, N=10 * _MILLION),
    _scan(128, 100, _BF16, B=1),
    *(_scan(64, 100, _FP32, B=64, capability=c) for c in (80, 90)),
    _scan(64, 100, _FP32, B=64, fast=True),
    *(c for dtype in (_BF16, _FP32, _FP64) for c in _prepare(64, dtype)),
    *(c for dtype in (_FP32, _FP64) for c in _prepare(64, dtype, fast=True)),
    *(c for D, dtype in ((64, _BF16), (128, _FP32), (64, _FP64)) for c in _finish(D, 100, dtype)),
    *_finish(64, 1000, _BF16, exclude=False),
    *_finish(64, 100, _FP32, B=1),
    *_finish(128, 100, _BF16, B=1, exclude=False),
    *_finish(64, 100, _FP64, B=200),
    *(c for c in _finish(64, 100, _FP32, fast=True) if c.kernel is resolve),
    *_order(100),
    *_order(1000),
)
