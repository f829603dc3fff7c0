"""Optimisers that touch only listed rows, on the GPU, in place. Formulas: :mod:`fastkd.ops.row_update`.

Shapes: N rows of a table, D wide, R listed rows, ascending. A row below 0 is padding; of a row that repeats the first
place counts. A program owns ROWS listed rows, all of each: it reads gradient, state and weight once and writes once.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from fastkd.kernels.triton._configuration import Configuration
from fastkd.kernels.triton._rows import split

_NUMBERS = 512


def row_sgd(weight: Tensor, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float) -> None:
    """Step of stochastic gradient descent."""
    if gradient.numel():
        _sgd[_grid(gradient)](
            weight, rows, gradient.to(weight.dtype).contiguous(), len(rows), weight.shape[1],
            *split(lr), *split(weight_decay), **_blocks(weight.shape[1]),
        )  # fmt: skip


def row_adagrad(
    weight: Tensor, rows: Tensor, gradient: Tensor, total: Tensor, *, lr: float, eps: float, weight_decay: float
) -> None:
    """Step of Adagrad; ``total`` is [N, D], or [N, 1] for one accumulator a row."""
    if gradient.numel():
        _adagrad[_grid(gradient)](
            weight, rows, gradient.to(weight.dtype).contiguous(), total, len(rows), weight.shape[1],
            *split(lr), *split(eps), *split(weight_decay), ROWWISE=total.shape != weight.shape,
            **_blocks(weight.shape[1]),
        )  # fmt: skip


def row_adam(
    weight: Tensor, rows: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, step: Tensor,
    *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, decoupled: bool,
) -> None:  # fmt: skip
    """Step of lazy Adam; ``step`` Int32[N] counts each row's own steps."""
    if gradient.numel():
        coupled, shrink = (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)
        _adam[_grid(gradient)](
            weight, rows, gradient.to(weight.dtype).contiguous(), mean, square, step, len(rows), weight.shape[1],
            *split(lr), *split(beta1), *split(beta2), *split(eps), *split(coupled), *split(shrink),
            **_blocks(weight.shape[1]),
        )  # fmt: skip


def _blocks(dim: int) -> dict[str, int]:
    wide = triton.next_power_of_2(dim)
    return {"ROWS": max(1, _NUMBERS // wide), "DIMS": wide, "num_warps": 4 if wide <= _NUMBERS else 16}


def _grid(gradient: Tensor) -> tuple[int]:
    return (triton.cdiv(len(gradient), _blocks(gradient.shape[1])["ROWS"]),)


@triton.jit
def _listed(rows, R, D, ROWS: tl.constexpr, DIMS: tl.constexpr):
    """Return (row [ROWS], which of them count, places in gradient and table [ROWS, DIMS], which of those)."""
    j = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    row = tl.load(rows + j, j < R, other=-1)
    before = tl.load(rows + j - 1, (j > 0) & (j < R), other=-1)
    counts = (row >= 0) & (row != before)
    d = tl.arange(0, DIMS)
    return row, counts, j[:, None] * D + d[None, :], row[:, None] * D + d[None, :], counts[:, None] & (d < D)[None, :]


@triton.jit
def _number(high, rest, TYPE: tl.constexpr):
    """Return the number that ``split`` took apart, in TYPE [1, 1]."""
    return tl.full([1, 1], 0.0, TYPE) + high + tl.full([1, 1], 0.0, TYPE) + rest


@triton.jit
def _sgd(
    weight, rows, gradient, R, D, lr, lr_rest, decay, decay_rest, ROWS: tl.constexpr, DIMS: tl.constexpr
):  # fmt: skip
    """Tables: weight [N, D], rows [R], gradient [R, D]."""
    _, _, listed, place, live = _listed(rows, R, D, ROWS, DIMS)
    kind: tl.constexpr = weight.dtype.element_ty
    w = tl.load(weight + place, live, other=0.0)
    g = tl.load(gradient + listed, live, other=0.0) + _number(decay, decay_rest, kind) * w
    tl.store(weight + place, w - _number(lr, lr_rest, kind) * g, live)


@triton.jit
def _adagrad(
    weight, rows, gradient, total, R, D, lr, lr_rest, eps, eps_rest, decay, decay_rest,
    ROWWISE: tl.constexpr, ROWS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """Tables: weight [N, D], rows [R], gradient [R, D], total [N, D] or [N]."""
    row, counts, listed, place, live = _listed(rows, R, D, ROWS, DIMS)
    kind: tl.constexpr = weight.dtype.element_ty
    w = tl.load(weight + place, live, other=0.0)
    h = tl.load(gradient + listed, live, other=0.0) + _number(decay, decay_rest, kind) * w
    h = tl.where(live, h, 0.0)
    if ROWWISE:
        sum_of_row = tl.load(total + row, counts, other=0.0) + tl.sum(h * h, 1) / D
        tl.debug_barrier()  # every thread that keeps a copy has read before one of them writes
        tl.store(total + row, sum_of_row, counts)
        sums = sum_of_row[:, None] + tl.zeros([ROWS, DIMS], kind)
    else:
        sums = tl.load(total + place, live, other=0.0) + h * h
        tl.store(total + place, sums, live)
    # Lanes that are not listed divide by 1, not by 0.
    root = tl.where(live, tl.sqrt(sums) + _number(eps, eps_rest, kind), 1.0)
    tl.store(weight + place, w - _number(lr, lr_rest, kind) * h / root, live)


@triton.jit
def _adam(
    weight, rows, gradient, mean, square, step, R, D, lr, lr_rest, beta1, beta1_rest, beta2, beta2_rest,
    eps, eps_rest, decay, decay_rest, shrink, shrink_rest, ROWS: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """weight, mean, square [N, D], rows [R], gradient [R, D], step [N]."""
    row, counts, listed, place, live = _listed(rows, R, D, ROWS, DIMS)
    kind: tl.constexpr = weight.dtype.element_ty
    b1, b2 = _number(beta1, beta1_rest, kind), _number(beta2, beta2_rest, kind)
    t = tl.load(step + row, counts, other=0) + 1
    tl.debug_barrier()  # every thread that keeps a copy has read before one of them writes
    tl.store(step + row, t, counts)
    # 1 - beta^t in float64: for a first step with beta2 = 0.999 float32 would keep four digits of it.
    wide = t.to(tl.float64)[:, None]
    fix1 = 1.0 - tl.exp2(wide * tl.log2(_number(beta1, beta1_rest, tl.float64)))
    fix2 = 1.0 - tl.exp2(wide * tl.log2(_number(beta2, beta2_rest, tl.float64)))
    size = (_number(lr, lr_rest, tl.float64) / fix1).to(kind)
    root = (1.0 / tl.sqrt(fix2)).to(kind)
    w = tl.load(weight + place, live, other=0.0)
    h = tl.load(gradient + listed, live, other=0.0) + _number(decay, decay_rest, kind) * w
    m = b1 * tl.load(mean + place, live, other=0.0) + (1.0 - b1) * h
    v = b2 * tl.load(square + place, live, other=0.0) + (1.0 - b2) * h * h
    tl.store(mean + place, m, live)
    tl.store(square + place, v, live)
    scale = tl.where(live, tl.sqrt(v) * root + _number(eps, eps_rest, kind), 1.0)
    kept = 1.0 - _number(shrink, shrink_rest, kind)
    tl.store(weight + place, kept * w - size * m / scale, live)


def _configuration(
    name: str, kernel: object, dim: int, tables: tuple[str, ...], numbers: tuple[str, ...], **constants: Any
) -> Configuration:
    blocks = _blocks(dim)
    pointers = {
        "weight": "*fp32",
        "rows": "*i64",
        "gradient": "*fp32",
        **{t: "*i32" if t == "step" else "*fp32" for t in tables},
    }
    scalars = {f"{n}{part}": "fp32" for n in numbers for part in ("", "_rest")}
    return Configuration(
        name=f"{name}-d{dim}",
        kernel=kernel,
        signature={**pointers, "R": "i32", "D": "i32", **scalars},
        constants={"ROWS": blocks["ROWS"], "DIMS": blocks["DIMS"], **constants},
        num_warps=blocks["num_warps"],
        unaligned=("R", "D"),
    )


CONFIGURATIONS = tuple(
    entry
    for dim in (20, 64, 128, 512)
    for entry in (
        _configuration("sgd", _sgd, dim, (), ("lr", "decay")),
        _configuration("adagrad", _adagrad, dim, ("total",), ("lr", "eps", "decay"), ROWWISE=False),
        _configuration("rowwise-adagrad", _adagrad, dim, ("total",), ("lr", "eps", "decay"), ROWWISE=True),
        _configuration(
            "adam", _adam, dim, ("mean", "square", "step"), ("lr", "beta1", "beta2", "eps", "decay", "shrink")
        ),
    )
)
