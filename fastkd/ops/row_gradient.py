"""Gradient of a table that was read at a few rows, without the other rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.kernels.reference import row_gradient as reference
from fastkd.ops._checks import check_float, check_ids, check_rows
from fastkd.ops._dispatch import choose
from fastkd.ops._library import compute_dtype, define, launch


def row_gradient(vectors: Tensor, ids: Tensor, coefficients: Tensor, *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Return the rows of ``g_i = sum_{(b, c): ids[b, c] = i} coefficients[b, c] * vectors[b]`` that are listed.

    It is the gradient of ``items`` in :func:`fastkd.ops.gather_dot` for an upstream gradient ``coefficients``, in the
    memory of its distinct ids: nothing of the table's size N is made or read.

    ``vectors``: Float[B, D]. ``ids``: Int64[B, C] (or int32); negative ids are padding. ``coefficients``: Float[B, C].
    ``backend``: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``.

    Returns ``rows`` Int64[R], ascending, and ``values`` Float[R, D] in the dtype of the inputs, float32 at least. Sums
    run in the order of (b, c): the same bits for any number of threads. On the CPU rows are distinct; on a GPU R is
    B * C, a repeated row has its sum at the first and 0 at the others, and padding is row -1, for counting would wait
    for the device. Not differentiable.

    Raises TypeError, ValueError: tensors that do not fit. BackendError: a backend that cannot run.
    """
    check_float("vectors", vectors, "B D")
    check_ids("ids", ids, "B C")
    check_float("coefficients", coefficients, "B C")
    check_rows("vectors", vectors, "ids", ids)
    check_rows("ids", ids, "coefficients", coefficients)
    if ids.shape != coefficients.shape:
        raise ValueError(f"coefficients must be shaped like ids, {list(ids.shape)}, got {list(coefficients.shape)}")
    chosen = choose("row_gradient", backend, vectors.device.type)
    with torch.no_grad():
        if chosen == "reference":
            return reference.row_gradient(vectors, ids, coefficients)
        rows, values = _native(vectors, ids, coefficients, chosen)
    return rows, values


def sparse_gradient(rows: Tensor, values: Tensor, num_rows: int) -> Tensor:
    """Return what :func:`row_gradient` made as a sparse COO tensor [num_rows, D], the gradient autograd takes.

    Coalesced on the CPU. On a GPU padding becomes a zero at the last listed row, which changes no sum and touches no
    other row (row 0 where nothing is listed at all).
    """
    shape = (num_rows, values.shape[1])
    coalesced = rows.device.type == "cpu"
    safe = rows if coalesced or not len(rows) else torch.where(rows < 0, rows.amax(), rows).clamp(min=0)
    return torch.sparse_coo_tensor(safe[None], values, shape, is_coalesced=coalesced, check_invariants=False)


def _launch(vectors: Tensor, ids: Tensor, coefficients: Tensor, backend: str) -> Any:
    return launch("row_gradient", backend, vectors.device)(vectors, ids, coefficients)


def _fake(vectors: Tensor, ids: Tensor, coefficients: Tensor, backend: str) -> Any:
    rows = torch.library.get_ctx().new_dynamic_size() if vectors.device.type == "cpu" else ids.numel()
    values = vectors.new_empty((rows, vectors.shape[1]), dtype=compute_dtype(vectors, coefficients))
    return ids.new_empty((rows,), dtype=torch.int64), values


_native = define(
    "row_gradient(Tensor vectors, Tensor ids, Tensor coefficients, str backend) -> (Tensor, Tensor)",
    implementation=_launch,
    fake=_fake,
)
