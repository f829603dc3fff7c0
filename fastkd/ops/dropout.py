"""Dropout with counter-based draws: the same values are left out on every device, for any batch and threads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import dropout as reference
from fastkd.ops._checks import check_float, check_ids, check_rows, check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import below_autograd, define, launch, needs_gradient, record
from fastkd.ops.sample_ranked import _check_count


def dropout(
    x: Tensor, rate: float, *, seed: int, step: int, rows: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return ``y_nj = x_nj / (1 - rate)`` where kept, else 0, each kept with probability ``1 - rate``.

    What is kept depends on (seed, step, row, column, D, rate) alone, by the counters of ``row_words`` in
    ``fastkd/kernels/reference/_random.py`` with the key ``Seeds(seed).key("dropout", step)``: the same for any batch,
    threads, device and backend. Nothing is stored for the backward pass, which draws again.

    Args:
        x: Float[n, D], differentiable. A value that is left out becomes 0 even if it is NaN or infinite.
        rate: share left out, in [0, 1).
        seed: root seed of the draw.
        step: step of the draw.
        rows: Int64[n] (or int32), an id for each row, such as its user: a row then draws the same wherever it stands.
            By default its place, 0 to n - 1.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``, which runs on any device.

    Returns:
        Float[n, D] in the dtype of ``x``. Second derivatives are right on every backend.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting" (JMLR'14); Philox:
    Salmon et al. (SC'11).
    """
    check_float("x", x, "n D")
    _check_count("step", step)
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
        raise ValueError(f"rate must be a number in [0, 1), got {rate!r}")
    if rows is not None:
        check_ids("rows", rows, "n")
        check_rows("x", x, "rows", rows)
    chosen = choose("dropout", backend, x.device.type)
    check_seed(seed)
    if rate == 0:
        return x
    if rows is None:
        rows = torch.arange(x.shape[0], device=x.device)
    if chosen == "reference" and not torch.compiler.is_compiling():
        # Plain torch, for ``torch.func``.
        return _launch(x, rows.long(), float(rate), seed, step, chosen)
    kept: Tensor = _native(x, rows.long(), float(rate), seed, step, chosen)
    return kept


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, *others: Any) -> Any:
        ctx.save_for_backward(rows)
        ctx.others = others
        with below_autograd():
            return _native(x, rows, *others)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        # Linear in x: the gradient is the same map, and so is the gradient of that.
        (rows,) = ctx.saved_tensors
        return _native(upstream, rows, *ctx.others), None, None, None, None, None


def _launch(x: Tensor, rows: Tensor, rate: float, seed: int, step: int, backend: str) -> Tensor:
    run: Any = reference.dropout if backend == "reference" else launch("dropout", backend, x.device)
    # A rate just below 1 would round to nothing kept.
    below, scale = max(1, round((1.0 - rate) * 2**32)), 1.0 / (1.0 - rate)
    kept: Tensor = run(x, rows, below, scale, Seeds(seed).key("dropout", step))
    return kept


def _autograd(x: Tensor, *others: Any) -> Any:
    if needs_gradient(x):
        return record(_Dropout, x, *others)
    with below_autograd():
        return _native(x, *others)


def _fake(x: Tensor, *_: Any) -> Any:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


_native = define(
    "dropout(Tensor x, Tensor rows, float rate, SymInt seed, SymInt step, str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
    autograd=_autograd,
)
