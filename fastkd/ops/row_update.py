"""Optimiser steps that read and write only the rows a gradient lists. In place; the rest of the table is not touched.

A step on N rows moves 3 N D to 6 N D numbers whatever the batch is; these move that of the listed rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fastkd.kernels.reference import row_update as reference
from fastkd.ops._checks import check_device, check_float
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch


def row_sgd(
    weight: Tensor, rows: Tensor, gradient: Tensor, *, lr: float, weight_decay: float = 0.0, backend: str = "auto"
) -> None:
    """Do ``w_i -= lr (g_i + weight_decay w_i)`` for the listed rows i.

    ``weight``: Float[N, D], float32 or float64, contiguous; changed in place. ``rows``: Int64[R], ascending; a row that
    repeats counts once, with the gradient at its first place (see :func:`fastkd.ops.row_gradient`); negative rows at
    the end are padding. ``gradient``: Float[R, D]. On the CPU rows must be distinct.

    Raises TypeError, ValueError: tensors that do not fit, rows out of range (on the CPU). BackendError.
    """
    chosen = _check(weight, rows, gradient, {}, {"lr": lr, "weight_decay": weight_decay}, backend)
    if chosen == "reference":
        reference.row_sgd(weight, rows, gradient, lr=lr, weight_decay=weight_decay)
    else:
        _sgd(weight, rows, gradient, lr, weight_decay, chosen)


def row_adagrad(
    weight: Tensor,
    rows: Tensor,
    gradient: Tensor,
    total: Tensor,
    *,
    lr: float,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
    backend: str = "auto",
) -> None:
    """Do ``h = g_i + weight_decay w_i; total_i += h^2; w_i -= lr h / (sqrt(total_i) + eps)`` for the listed rows i.

    ``total``: Float[N, D], or Float[N, 1]: one accumulator a row, the mean of h^2 over D, in 1 / D of the memory.
    The rest as in :func:`row_sgd`. Duchi et al., "Adaptive subgradient methods" (JMLR'11).
    """
    numbers = {"lr": lr, "eps": eps, "weight_decay": weight_decay}
    chosen = _check(weight, rows, gradient, {"total": total}, numbers, backend)
    if chosen == "reference":
        reference.row_adagrad(weight, rows, gradient, total, lr=lr, eps=eps, weight_decay=weight_decay)
    else:
        _adagrad(weight, rows, gradient, total, lr, eps, weight_decay, chosen)


def row_adam(
    weight: Tensor,
    rows: Tensor,
    gradient: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    backend: str = "auto",
) -> None:
    """Do a step of lazy Adam for the listed rows i, each with a step count t_i of its own.

        t_i += 1;  h = g_i + weight_decay w_i;  m_i = b1 m_i + (1 - b1) h;  v_i = b2 v_i + (1 - b2) h^2
        w_i -= lr (m_i / (1 - b1^t_i)) / (sqrt(v_i / (1 - b2^t_i)) + eps)

    ``decoupled``: h = g_i and w_i first shrinks by 1 - lr weight_decay (AdamW). ``state``: (m Float[N, D],
    v Float[N, D], t Int32[N]), changed in place. The rest as in :func:`row_sgd`.

    A row that is listed in every step goes exactly the way of dense Adam. A row that is not listed keeps weight and
    moments, where dense Adam would let them decay; its bias correction counts the steps it had, so the first step of a
    rare row is not shrunk by a global count. Kingma & Ba, "Adam" (ICLR'15); Loshchilov & Hutter (ICLR'19) for AdamW.
    """
    mean, square, step = state
    numbers = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "beta1": betas[0], "beta2": betas[1]}
    chosen = _check(weight, rows, gradient, {"m": mean, "v": square}, numbers, backend)
    if step.shape != weight.shape[:1] or step.dtype != torch.int32:
        raise ValueError(f"t must be Int32[{len(weight)}], got {step.dtype} of shape {list(step.shape)}")
    if not (betas[0] < 1 and betas[1] < 1):
        raise ValueError(f"betas must be in [0, 1), got {betas}")
    if chosen == "reference":
        reference.row_adam(
            weight, rows, gradient, mean, square, step, lr=lr, beta1=betas[0], beta2=betas[1], eps=eps,
            weight_decay=weight_decay, decoupled=decoupled,
        )  # fmt: skip
    else:
        _adam(weight, rows, gradient, mean, square, step, lr, *betas, eps, weight_decay, decoupled, chosen)


def _check(
    weight: Tensor, rows: Tensor, gradient: Tensor, state: dict[str, Tensor], numbers: dict[str, float], backend: str
) -> str:
    check_float("weight", weight, "N D")
    check_float("gradient", gradient, "R D")
    if weight.dtype not in (torch.float32, torch.float64) or not weight.is_contiguous():
        raise TypeError(f"weight must be contiguous float32 or float64, got {weight.dtype}, strides {weight.stride()}")
    if rows.dtype != torch.int64 or rows.shape != gradient.shape[:1] or gradient.shape[1] != weight.shape[1]:
        raise ValueError(
            f"rows must be Int64[R] and gradient Float[R, {weight.shape[1]}], got {rows.dtype} {list(rows.shape)} "
            f"and {list(gradient.shape)}"
        )
    for name, tensor in {"rows": rows, "gradient": gradient, **state}.items():
        check_device("weight", weight, name, tensor)
    for name, tensor in state.items():
        widths = (weight.shape[1], 1) if name == "total" else (weight.shape[1],)
        if tensor.dtype != weight.dtype or not tensor.is_contiguous() or len(tensor) != len(weight):
            raise ValueError(f"{name} must be contiguous {weight.dtype} with {len(weight)} rows, got {tensor.dtype}")
        if tensor.dim() != 2 or tensor.shape[1] not in widths:
            raise ValueError(f"{name} must be {' or '.join(map(str, widths))} wide, got shape {list(tensor.shape)}")
    for name, number in numbers.items():
        if not (math.isfinite(number) and number >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, got {number!r}")
    chosen = choose("row_update", backend, weight.device.type)
    if chosen == "reference":
        _check_rows(rows, len(weight))
    return chosen


def _check_rows(rows: Tensor, num_rows: int) -> None:
    """Refuse rows that are not distinct, ascending and in range; on a GPU reading them would wait for the device."""
    if rows.device.type != "cpu" or torch.compiler.is_compiling() or len(rows) == 0:
        return
    if int(rows[0]) < 0 or int(rows[-1]) >= num_rows or not ascending(rows):
        low, high = (int(value) for value in rows.aminmax())
        raise ValueError(f"rows must be ascending, distinct and in [0, {num_rows}), got values from {low} to {high}")


def ascending(rows: Tensor) -> bool:
    """Return whether ``rows`` Int64[R] are known to ascend, none twice; on a GPU to look would wait for the device."""
    if rows.device.type != "cpu":
        return False
    # numpy takes a tenth of the time of torch's two operators.
    values = rows.numpy()
    return bool((values[1:] > values[:-1]).all())


def _step(function: str) -> Any:
    names = {
        "row_sgd": ("lr", "weight_decay"),
        "row_adagrad": ("lr", "eps", "weight_decay"),
        "row_adam": ("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled"),
    }[function]

    def implementation(*args: Any) -> None:
        *values, backend = args
        tensors, numbers = values[: -len(names)], dict(zip(names, values[-len(names) :], strict=True))
        _check_rows(tensors[1], len(tensors[0]))  # here and not above, where a compiled program would leave it out
        with torch.no_grad():
            launch("row_update", backend, args[0].device, function)(*(t.detach() for t in tensors), **numbers)
        # Kernels write past torch, which could not tell that a graph made before has lost its values.
        weight, _, _, *state = tensors
        torch.autograd.graph.increment_version([weight, *state])

    return implementation


def _nothing(*_: Any) -> None:
    return None


_sgd = define(
    "row_sgd_(Tensor(a!) weight, Tensor rows, Tensor gradient, float lr, float weight_decay, str backend) -> ()",
    implementation=_step("row_sgd"),
    fake=_nothing,
)
_adagrad = define(
    "row_adagrad_(Tensor(a!) weight, Tensor rows, Tensor gradient, Tensor(b!) total, float lr, float eps, "
    "float weight_decay, str backend) -> ()",
    implementation=_step("row_adagrad"),
    fake=_nothing,
)
_adam = define(
    "row_adam_(Tensor(a!) weight, Tensor rows, Tensor gradient, Tensor(b!) mean, Tensor(c!) square, Tensor(d!) step, "
    "float lr, float beta1, float beta2, float eps, float weight_decay, bool decoupled, str backend) -> ()",
    implementation=_step("row_adam"),
    fake=_nothing,
)
