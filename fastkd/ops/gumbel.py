"""Gumbel noise with counter-based draws: the same on every device, for any batch and threads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastkd.core.seeds import Seeds
from fastkd.kernels.reference import gumbel as reference
from fastkd.ops._checks import check_ids, check_seed
from fastkd.ops._dispatch import choose
from fastkd.ops._library import define, launch
from fastkd.ops.sample_ranked import _check_count


def gumbel(rows: Tensor, columns: int, *, seed: int, step: int, backend: str = "auto") -> Tensor:
    """Return standard Gumbel noise, ``P(G <= g) = exp(-exp(-g))``, Float32[n, E].

    The arg max over columns of ``z + G`` has law softmax(z). A draw depends on (seed, step, row, column, E) alone, by
    the counters of ``row_words`` in ``fastkd/kernels/reference/_random.py`` with the key
    ``Seeds(seed).key("gumbel", step)``: the same bits for any batch, threads, device and backend. One of 2^32 values
    from -3.14 to 22.87.

    Args:
        rows: Int64[n] (or int32), an id for each row, such as its user.
        columns: E, draws per row.
        seed: root seed of the draw.
        step: step of the draw.
        backend: ``"auto"``, ``"triton"``, ``"numba"`` or ``"reference"``, which runs on any device.

    Raises:
        TypeError, ValueError: arguments that do not fit. BackendError: a backend that cannot run here.

    Source: Jang et al., "Categorical reparameterization with Gumbel-softmax" (ICLR'17).
    """
    check_ids("rows", rows, "n")
    _check_count("columns", columns)
    _check_count("step", step)
    check_seed(seed)
    chosen = choose("gumbel", backend, rows.device.type)
    drawn: Tensor = _native(rows.long(), columns, seed, step, chosen)
    return drawn


def _launch(rows: Tensor, columns: int, seed: int, step: int, backend: str) -> Any:
    run: Any = reference.gumbel if backend == "reference" else launch("gumbel", backend, rows.device)
    return run(rows, columns, Seeds(seed).key("gumbel", step))


def _fake(rows: Tensor, columns: int, *_: Any) -> Any:
    return rows.new_empty((rows.shape[0], columns), dtype=torch.float32)


_native = define(
    "gumbel(Tensor rows, SymInt columns, SymInt seed, SymInt step, str backend) -> Tensor",
    implementation=_launch,
    fake=_fake,
)
