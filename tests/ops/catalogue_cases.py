"""What the tests of the catalogue ops share."""

from __future__ import annotations

import importlib

import pytest
import torch

from tests.contracts.backends import device_of, interpreted
from tests.contracts.closeness import assert_near

ITEMS = 37


def tables_for(rows, scale, width=3, seed=0):
    random = torch.Generator().manual_seed(rows + seed)
    users, items = (torch.randn(n, width, generator=random, dtype=torch.float64) for n in (rows, ITEMS))
    return [users, items * scale]


def excluded_for(users):
    """Six ids per user, some repeated, some padding, in no order."""
    rows = users.shape[0]
    ids = (torch.arange(rows * 6, device=users.device).view(rows, 6) * 7919 + 100) % ITEMS
    return torch.where(ids % 5 == 0, -1, torch.where(ids % 7 == 0, ids[:, :1].clamp(min=0), ids))


def small_tiles(patch):
    """Cut small tables into many tiles."""
    names = ("_catalogue_blocks", "_catalogue_sweep", "catalogue_divergence")
    # All are loaded before any is patched: one that loads later would take the small sizes for its own.
    for module in [importlib.import_module(f"fastkd.kernels.numba.{name}") for name in names]:
        for size, small in (("ITEMS", 16), ("USERS", 32), ("_WIDEST", 1)):
            if hasattr(module, size):
                patch.setattr(module, size, small)


class HalfPrecision:
    """Small tiles, and a tolerance for half precision.

    On the tensor cores probabilities are rounded to the tables' dtype before they multiply vectors.
    """

    @pytest.fixture(autouse=True)
    def _tiles(self, monkeypatch):
        small_tiles(monkeypatch)

    def test_gradient_is_that_of_the_value(self, backend):
        inputs = [t.to(device_of(backend)).requires_grad_() for t in self.inputs(rows=3, padded=False)]
        # The interpreter is slow: along random directions only.
        assert torch.autograd.gradcheck(
            lambda *leaves: self.call(leaves, backend), inputs, fast_mode=interpreted(backend)
        )

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, backend, dtype):
        inputs = [t.to(dtype) for t in self.inputs()]
        value, gradients = self.run(inputs, backend, dtype)
        same, full = self.run(inputs, backend, torch.float32)
        assert value.dtype == torch.float32
        if backend == "triton":
            # Tensor cores add in another order than float32 products do; the interpreter truncates what they round.
            assert_near(value, same, hair=8)
            hair = (4 if interpreted(backend) else 2) * torch.finfo(dtype).eps
            for g, f in zip(gradients, full, strict=True):
                assert g.dtype == dtype
                assert (g - f).abs().max() <= hair * f.abs().max()
            return
        assert torch.equal(value, same)
        for g, f in zip(gradients, full, strict=True):
            assert torch.equal(g, f.to(dtype))
