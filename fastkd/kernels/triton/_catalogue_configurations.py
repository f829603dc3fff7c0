"""The catalogue kernels as launchers start them, to be compiled and judged without a GPU."""

from __future__ import annotations

from typing import Any

import torch
import triton

from fastkd.kernels.triton._catalogue_launch import Tiles, pick_pair_tiles, pick_tiles
from fastkd.kernels.triton._catalogue_pair import pair_items, pair_users
from fastkd.kernels.triton._catalogue_sweep import sweep_items, sweep_users
from fastkd.kernels.triton._catalogue_targets import add_target_gradient, finish
from fastkd.kernels.triton._configuration import Configuration

_TYPES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}


def softmax_configurations() -> tuple[Configuration, ...]:
    """Return the sweeps over dtypes and widths, and the kernels around them."""
    found = []
    for dtype, widths in ((torch.bfloat16, (32, 64, 128, 256, 512)), (torch.float16, (64,)), (torch.float32, (64, 128)),
                          (torch.float64, (64,))):  # fmt: skip
        for width in widths:
            name, tiles = _TYPES[dtype], pick_tiles(dtype, width)
            for extra in ("", "-exclude") if (width, name) == (64, "bf16") else ("",):
                found.append(_users(f"users-{name}-d{width}{extra}", name, tiles, mean=True, excluded=bool(extra)))
                found.append(_items(f"items-{name}-d{width}{extra}", name, tiles, excluded=bool(extra)))
    found.append(_users("users-bf16-d64-value", "bf16", pick_tiles(torch.bfloat16, 64), mean=False, excluded=False))
    return (*found, *_around("bf16", "fp32"), *_around("fp32", "fp32"))


def _sweep_constants(tiles: Tiles) -> dict[str, object]:
    constants = tiles.constants()
    return {k: v for k, v in constants.items() if not k.startswith("num_")}


def _common(tiles: Tiles, *, excluded: bool) -> dict[str, object]:
    absent = {} if excluded else {"indptr": None, "indices": None}
    return {"bias": None, **absent, **_sweep_constants(tiles)}


def _pointers(tables: str, sums: str, *, excluded: bool) -> dict[str, str]:
    lists = {"indptr": "*i64", "indices": "*i32"} if excluded else {}
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
        num_stages=tiles.stages, unaligned=("B", "N", "steps"), scores=tiles.users * tiles.items,
        default=not tiles.exact, wgmma=tables in ("bf16", "fp16"),
    )  # fmt: skip


def _items(name: str, tables: str, tiles: Tiles, *, excluded: bool) -> Configuration:
    sums = "fp64" if tiles.exact else "fp32"
    signature = _pointers(tables, sums, excluded=excluded) | {"weights": f"*{sums}", "out": f"*{tables}"}
    return Configuration(
        name=name, kernel=sweep_items, signature=signature,
        constants=_common(tiles, excluded=excluded) | {"base": None},
        num_warps=tiles.warps, num_stages=tiles.stages, unaligned=("B", "N", "steps"),
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
    """Return the kernels of two softmaxes: each kind in bfloat16, one in float32."""
    found = []
    for kind, name in enumerate(("cross-entropy", "forward-kl", "reverse-kl", "jensen-shannon")):
        found += _pair(f"{name}-bf16-d64-e128", "bf16", kind, *pick_pair_tiles(torch.bfloat16, 64, 128))
    found += _pair("reverse-kl-fp32-d64-e128", "fp32", 2, *pick_pair_tiles(torch.float32, 64, 128))
    found += _pair("reverse-kl-bf16-d256-e512", "bf16", 2, *pick_pair_tiles(torch.bfloat16, 256, 512))
    return tuple(found)


def _pair(name: str, tables: str, kind: int, tiles: Tiles, teacher: dict[str, int]) -> list[Configuration]:
    sizes = {"B": "i32", "N": "i32", "D": "i32", "E": "i32", "scale": "fp32", "steps": "i32"}
    signature = dict.fromkeys(("users", "items", "t_users", "t_items"), f"*{tables}") | sizes
    constants = {"indptr": None, "indices": None, "KIND": kind, **_sweep_constants(tiles), **teacher}
    given = {"stats": "*fp32", "upstream": "*fp32"}
    ranges = {"per_range": "i32", "ranges": "i32"}
    absent = {"stats": None, "upstream": None, "means": None}
    shared: dict[str, Any] = {"num_warps": tiles.warps, "num_stages": tiles.stages, "scores": tiles.users * tiles.items}
    rough = ("B", "N", "steps")
    return [
        Configuration(name=f"sums-{name}", kernel=pair_users, signature=signature | ranges | {"sums": "*fp32"},
                      constants=constants | absent, unaligned=(*rough, "ranges"), **shared),
        Configuration(name=f"users-{name}", kernel=pair_users,
                      signature=signature | ranges | given | {"means": "*fp32"},
                      constants=constants | {"sums": None}, unaligned=(*rough, "ranges"), **shared),
        Configuration(name=f"items-{name}", kernel=pair_items, signature=signature | given | {"out": f"*{tables}"},
                      constants=constants, unaligned=rough, **shared),
    ]  # fmt: skip
