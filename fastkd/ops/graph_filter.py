"""A low-pass filter on a graph, for some of its nodes: ``(1 - a) x + a A x``.

Plain torch: a weighted sum of listed rows is ``embedding_bag``, which sums each row in stored order on one thread.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fastkd.kernels.reference import graph_filter as reference
from fastkd.ops._dispatch import choose


def graph_filter(
    x: Tensor,
    offsets: Tensor,
    neighbours: Tensor,
    weights: Tensor,
    *,
    strength: float,
    rows: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return ``(1 - strength) x_r + strength sum_j A_rj x_j`` for all nodes, or for ``rows``.

    With A normalised symmetrically this is the filter ``h(lambda) = 1 - strength lambda`` of the eigenvalues of its
    Laplacian ``I - A``, in [0, 2]: what varies little between neighbours passes.

    ``x`` Float[N, D], differentiable; A in CSR: ``offsets`` Int64[N + 1], ``neighbours`` Int64[E] in [0, N),
    ``weights`` Float[E]. With ``rows`` Int64[n] the CSR holds their rows alone, in that order: ``offsets`` Int64[n +
    1]. Returns Float[N, D] or Float[n, D]. ``backend``: ``"auto"``, or ``"reference"`` for the spectral form (a
    symmetric A over all nodes, small enough for its matrix).

    Raises ``ValueError`` for shapes that do not fit or an unknown backend.
    """
    listed = len(x) if rows is None else len(rows)
    if x.ndim != 2 or offsets.shape != (listed + 1,) or neighbours.ndim != 1 or weights.shape != neighbours.shape:
        shapes = [list(t.shape) for t in (x, offsets, neighbours, weights)]
        raise ValueError(f"expected x [N, D], offsets [{listed + 1}], neighbours and weights [E]; got {shapes}")
    if backend != "auto" and choose("graph_filter", backend, x.device.type) == "reference":
        if rows is not None:
            raise ValueError("the spectral form filters all nodes: leave rows out")
        return reference.graph_filter(x, offsets, neighbours, weights, strength)
    own = x if rows is None else functional.embedding(rows, x)
    if len(neighbours) == 0:
        return (1.0 - strength) * own
    mixed = functional.embedding_bag(
        neighbours, x, offsets, mode="sum", per_sample_weights=weights.to(x.dtype), include_last_offset=True
    )
    return torch.add((1.0 - strength) * own, mixed, alpha=strength)
