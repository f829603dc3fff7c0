"""The catalogue kernels as launchers start them, to be compiled and judged without a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
import triton

from fastkd.kernels.triton._catalogue_launch import PairKernel, Tiles, pick_pair_tiles, pick_tiles
from fastkd.kernels.triton._catalogue_pair import pair_items, pair_users
from fastkd.kernels.triton._catalogue_sweep import sweep_items, sweep_users
from fastkd.kernels.triton._catalogue_targets import add_target_gradient, finish
from fastkd.kernels.triton._configuration import TARGETS, Configuration

_TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}


def softmax_configurations() -> tuple[Configuration, ...]:
    """Return the sweeps over dtypes and widths, and the kernels around them."""
    found = []
    for dtype, widths in ((torch.bfloat16, (16, 32, 64, 128, 256, 512)), (torch.float16, (64,)),
                          (torch.float32, (64, 128)), (torch.float64, (64,))):  # fmt: skip
        for width in widths:
            name = _TYPES[dtype]
            for excluded in (False, True) if dtype == torch.bfloat16 and width in (64, 128, 256) else (False,):
                label = f"{name}-d{width}{'-exclude' * excluded}"
                for suffix, targets, tiles in _by_target(dtype, width, "users", excluded):
                    c = _users(f"users-{label}{suffix}", name, tiles, mean=True, excluded=excluded)
                    found.append(replace(c, targets=targets))
                for suffix, targets, tiles in _by_target(dtype, width, "items", excluded):
                    c = _items(f"items-{label}{suffix}", name, tiles, excluded=excluded)
                    found.append(replace(c, targets=targets))
    for suffix, targets, tiles in _by_target(torch.bfloat16, 64, "users", False):
        c = _users(f"users-bf16-d64-value{suffix}", "bf16", tiles, mean=False, excluded=False)
        found.append(replace(c, targets=targets))
    return (*found, *_around("bf16", "fp32"), *_around("fp32", "fp32"))


def _by_target(
    dtype: torch.dtype, width: int, owner: Literal["users", "items"], excluded: bool
) -> list[tuple[str, tuple[int, ...], Tiles]]:
    return _grouped({t: pick_tiles(dtype, width, t, owner=owner, excluded=excluded) for t in TARGETS})


def _grouped(tiles: dict[int, Tiles]) -> list[tuple[str, tuple[int, ...], Tiles]]:
    """Return (suffix of a name, targets, tiles) for each that differs."""
    groups = [(tuple(t for t in tiles if tiles[t] == each), each) for each in dict.fromkeys(tiles.values())]
    one = len(groups) == 1
    return [("" if one else "-for" + "".join(f"-{t}" for t in targets), targets, each) for targets, each in groups]


def _common(tiles: Tiles, *, excluded: bool) -> dict[str, object]:
    absent = {} if excluded else {"bounds": None, "indices": None}
    return {"bias": None, **absent, **tiles.constants()}


def _pointers(tables: str, sums: str, *, excluded: bool) -> dict[str, str]:
    lists = {"bounds": "*i64", "indices": "*i32"} if excluded else {}
    return {"users": f"*{tables}", "items": f"*{tables}", **lists, "tops": f"*{sums}", "B": "i32", "N": "i32",
            "D": "i32", "scale": "fp32", "steps": "i32"}  # fmt: skip


def _users(name: str, tables: str, tiles: Tiles, *, mean: bool, excluded: bool) -> Configuration:
    sums = "fp64" if tiles.exact else "fp32"
    signature = _pointers(tables, sums, excluded=excluded) | {"masses": f"*{sums}", "per_range": "i32"}
    constants = _common(tiles, excluded=excluded)
    if mean:
        signature["means"] = f"*{sums}"
    else:
        constants["means"] = None
    return Configuration(
        name=name, kernel=sweep_users, signature=signature, constants=constants, num_warps=tiles.warps,
        num_stages=tiles.stages, options=tiles.limits(), unaligned=("B", "N", "steps"),
        scores=tiles.users * tiles.items, default=not tiles.exact, wgmma=tables in ("bf16", "fp16"),
    )  # fmt: skip


def _items(name: str, tables: str, tiles: Tiles, *, excluded: bool) -> Configuration:
    sums = "fp64" if tiles.exact else "fp32"
    signature = _pointers(tables, sums, excluded=excluded) | {"weights": f"*{sums}", "out": f"*{tables}"}
    return Configuration(
        name=name, kernel=sweep_items, signature=signature,
        constants=_common(tiles, excluded=excluded) | {"base": None},
        num_warps=tiles.warps, num_stages=tiles.stages, options=tiles.limits(), unaligned=("B", "N", "steps"),
        scores=tiles.users * tiles.items, default=not tiles.exact, wgmma=tables in ("bf16", "fp16"),
    )  # fmt: skip


def _around(tables: str, sums: str) -> tuple[Configuration, Configuration]:
    numbers = {"N": "i32", "D": "i32", "K": "i32", "scale": "fp32"}
    floats = ("tops", "masses", "means", "coefficients", "loss", "unit", "top_out", "share")
    signature = (
        dict.fromkeys(floats, f"*{sums}") | {"users": f"*{tables}", "items": f"*{tables}", "ids": "*i64"} | numbers
    )
    absent = dict.fromkeys(("bias", "uniform", "column", "bias_sum"))
    owners = {"sorted_ids": "*i64", "order": "*i64", "coefficients": f"*{sums}", "upstream": f"*{sums}",
              "users": f"*{tables}", "out": f"*{tables}", "E": "i32"}  # fmt: skip
    return (
        Configuration(
            name=f"finish-{tables}-d64", kernel=finish, signature=signature | {"B": "i32", "S": "i32"},
            constants=absent | {"BS": 16, "BK": 16, "BD": triton.next_power_of_2(64), "EXACT": False},
            unaligned=("B", "N", "K", "S"),
        ),
        Configuration(
            name=f"targets-{tables}-d64", kernel=add_target_gradient, signature=owners | numbers,
            constants={"BE": 16, "BD": 64, "EXACT": False}, num_warps=1, unaligned=("E", "N", "K"),
        ),
    )  # fmt: skip


def pair_configurations() -> tuple[Configuration, ...]:
    """Return the kernels of two softmaxes: each kind in bfloat16, one with an exclusion, in float32, and wide."""
    found = []
    for kind, name in enumerate(("cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon")):
        found += _pair(f"{name}-bf16-d64-e128", torch.bfloat16, kind, (64, 128))
    found += _pair("reverse-kl-bf16-d64-e64-exclude", torch.bfloat16, 2, (64, 64), excluded=True)
    found += _pair("reverse-kl-fp32-d64-e128", torch.float32, 2, (64, 128))
    found += _pair("reverse-kl-bf16-d256-e512", torch.bfloat16, 2, (256, 512))
    return tuple(found)


def _pair(
    name: str, dtype: torch.dtype, kind: int, widths: tuple[int, int], *, excluded: bool = False
) -> list[Configuration]:
    tables, lists = _TYPES[dtype], {"bounds": "*i64", "indices": "*i32"}
    sizes = {"B": "i32", "N": "i32", "D": "i32", "E": "i32", "scale": "fp32", "steps": "i32"}
    signature = (
        dict.fromkeys(("users", "items", "t_users", "t_items"), f"*{tables}") | sizes | (lists if excluded else {})
    )
    nothing = {"KIND": kind} | ({} if excluded else dict.fromkeys(lists))
    given, ranges = {"stats": "*fp32", "upstream": "*fp32"}, {"per_range": "i32", "ranges": "i32"}
    kernels: tuple[tuple[PairKernel, Any, dict[str, str], dict[str, None], tuple[str, ...]], ...] = (
        ("sums", pair_users, ranges | {"sums": "*fp32"}, dict.fromkeys(("stats", "upstream", "means")), ("ranges",)),
        ("users", pair_users, ranges | given | {"means": "*fp32"}, {"sums": None}, ("ranges",)),
        ("items", pair_items, given | {"out": f"*{tables}"}, {}, ()),
    )
    found = []
    for which, kernel, more, absent, rough in kernels:
        picked = {t: pick_pair_tiles(dtype, *widths, t, kernel=which, excluded=excluded) for t in TARGETS}
        by_target, teacher = _grouped({t: tiles for t, (tiles, _) in picked.items()}), picked[90][1]
        for suffix, targets, tiles in by_target:
            found.append(Configuration(
                name=f"{which}-{name}{suffix}", kernel=kernel, signature=signature | more,
                constants={**nothing, **absent, **tiles.constants(), **teacher}, num_warps=tiles.warps,
                num_stages=tiles.stages, options=tiles.limits(), unaligned=("B", "N", "steps", *rough),
                scores=tiles.users * tiles.items, targets=targets, wgmma=dtype == torch.bfloat16,
            ))  # fmt: skip
    return found
