"""How near two tensors are, in roundings, and inputs to try it on."""

from __future__ import annotations

import torch
from torch import Tensor


def wave(a: int, b: int, f: float, p: float = 0.0) -> Tensor:
    """S(a, b; f, p)_ij = sin(f (1 + i) (2 + j) + p), the inputs of published golden values."""
    i, j = torch.arange(a, dtype=torch.float64), torch.arange(b, dtype=torch.float64)
    return torch.sin(f * torch.outer(1 + i, 2 + j) + p)


def pad(scores: Tensor, seed: int, *, share: float = 0.2) -> Tensor:
    """Replace a share of the scores by -inf."""
    mask = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) < share
    return scores.masked_fill(mask, -torch.inf)


def assert_earned(found: Tensor, plain: Tensor, truth: Tensor, *, hair: float = 4.0, largest: float = 0.0) -> None:
    """Found strays from the float64 truth no further than plain torch in the same dtype, plus ``hair`` roundings.

    ``largest``: of the numbers whose difference is the truth, where that is made of two products which a processor may
    round differently.
    """
    assert found.shape == truth.shape
    assert not found.isnan().any()
    assert torch.equal(found.isinf(), truth.isinf())
    finite, rounding = truth.isfinite(), torch.finfo(torch.promote_types(plain.dtype, torch.float32)).eps
    found, plain, truth = (t[finite].double() for t in (found, plain, truth))
    if truth.numel():
        allowed = (plain - truth).abs().max() + rounding * (hair * truth.abs().max() + largest) + 1e-300
        assert (found - truth).abs().max() <= allowed


def assert_near(found: Tensor, expected: Tensor, *, hair: float = 64.0, scale: float = 0.0) -> None:
    """Found is ``expected``, made in the same dtype another way, to ``hair`` roundings of the largest number.

    A sum of n terms in plain torch strays by up to n roundings of its largest term; the sums of these tests are short.
    ``scale``: the largest term, where the terms cancel.
    """
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    found, expected = found.detach().cpu(), expected.detach().cpu()
    assert not found.isnan().any()
    finite, rounding = expected.isfinite(), torch.finfo(expected.dtype).eps
    assert torch.equal(found[~finite], expected[~finite])
    found, expected = found[finite].double(), expected[finite].double()
    if expected.numel():
        off = (found - expected).abs().max().item() / rounding
        largest = max(expected.abs().max().item(), scale)
        assert off <= hair * largest, f"{off:.3g} roundings of 1 apart, the largest number is {largest:.3g}"
