"""What every differentiable op promises. A test class of an op inherits :class:`OpContract` and fills in the blanks."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from fastkd.core import capability
from fastkd.core.errors import BackendError
from fastkd.kernels.numba import _threads
from fastkd.ops import _dispatch
from tests.contracts.backends import device_of, interpreted, many, poison
from tests.contracts.closeness import assert_earned, assert_near


class OpContract:
    """Fill in ``op``, :meth:`inputs`, :meth:`call`, :meth:`by_hand` and :meth:`native_calls`.

    A test asking for ``backend`` runs for every backend that has a kernel for ``op``, one asking for ``native`` for all
    but the reference (``tests/conftest.py``). Triton runs on the GPU if there is one, else interpreted on the CPU.
    """

    op: str
    largest_term: float = 50.0
    """Of the sums that make a gradient where scores are 50 times as large."""

    def inputs(self, *, rows: int = 7, scale: float = 1.0, padded: bool = True) -> list[Tensor]:
        """Return the differentiable arguments in float64; padding only if asked for."""
        raise NotImplementedError

    def call(self, inputs: Sequence[Tensor], backend: str = "auto") -> Tensor:
        """Call the public op; constants (ids, weights, targets) are made here, to the inputs' shapes."""
        raise NotImplementedError

    def by_hand(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the published formula in float64, term by term, without the op or its reference."""
        raise NotImplementedError

    def native_calls(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """Return (torch op, arguments) for ``torch.library.opcheck``."""
        raise NotImplementedError

    # -- helpers ------------------------------------------------------------------------------------

    def run(
        self, inputs: Sequence[Tensor], backend: str, dtype: torch.dtype, *, grad: Sequence[bool] | None = None
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return the value and the gradients for an upstream gradient that differs from entry to entry."""
        wanted = grad or [True] * len(inputs)
        device = device_of(backend)
        leaves = [t.detach().to(device, dtype).requires_grad_(g) for t, g in zip(inputs, wanted, strict=True)]
        value = self.call(leaves, backend)
        upstream = torch.linspace(-1.5, 2.5, value.numel(), dtype=torch.float64).view(value.shape)
        value.backward(upstream.to(value.device, value.dtype))
        return value.detach().cpu(), [leaf.grad if leaf.grad is None else leaf.grad.cpu() for leaf in leaves]

    def value(self, inputs: Sequence[Tensor], backend: str) -> Tensor:
        """Return the value alone, computed where the backend lives, on the CPU."""
        return self.call([t.to(device_of(backend)) for t in inputs], backend).cpu()

    # -- meaning ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("scale", [1.0, 1e4])
    def test_value_is_the_formula(self, backend, scale):
        inputs = self.inputs(scale=scale)
        found = self.value(inputs, backend)
        assert found.dtype == torch.float64
        assert_near(found, self.by_hand(inputs), scale=scale)

    def test_gradient_is_that_of_the_value(self, backend):
        inputs = [t.to(device_of(backend)).requires_grad_() for t in self.inputs(rows=3, padded=False)]
        quick = interpreted(backend)  # one random direction instead of every number
        assert torch.autograd.gradcheck(lambda *leaves: self.call(leaves, backend), inputs, fast_mode=quick)

    @pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
    def test_native_strays_no_further_than_plain_torch(self, scale, native):
        inputs = [t.float() for t in self.inputs(rows=many(native), scale=scale)]
        truth, true_gradients = self.run(inputs, "reference", torch.float64)
        plain, plain_gradients = self.run(inputs, "reference", torch.float32)
        found, gradients = self.run(inputs, native, torch.float32)
        assert found.dtype == torch.float32
        assert_earned(found, plain, truth)
        for g, p, t in zip(gradients, plain_gradients, true_gradients, strict=True):
            assert g.dtype == torch.float32
            assert_earned(g, p, t)

    def test_backends_agree_in_float64(self, native):
        inputs = self.inputs(rows=many(native), scale=50.0)
        expected, found = (self.run(inputs, backend, torch.float64) for backend in ("reference", native))
        assert_near(found[0], expected[0], scale=50.0)
        for g, e in zip(found[1], expected[1], strict=True):
            assert_near(g, e, scale=self.largest_term)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_is_computed_in_float32(self, backend, dtype):
        inputs = [t.to(dtype) for t in self.inputs()]
        value, gradients = self.run(inputs, backend, dtype)
        same, full = self.run(inputs, backend, torch.float32)
        assert value.dtype == torch.float32
        assert torch.equal(value, same)
        for g, f in zip(gradients, full, strict=True):
            assert torch.equal(g, f.to(dtype))

    def test_no_rows(self, backend):
        value, gradients = self.run(self.inputs(rows=0), backend, torch.float32)
        assert value.shape[0] == 0
        assert not any(g.any() for g in gradients)

    # -- autograd -----------------------------------------------------------------------------------

    def test_gradient_only_where_wanted(self, backend):
        inputs = self.inputs()
        _, full = self.run(inputs, backend, torch.float32)
        for i in range(len(inputs)):
            wanted = [j == i for j in range(len(inputs))]
            _, gradients = self.run(inputs, backend, torch.float32, grad=wanted)
            assert [g is not None for g in gradients] == wanted
            assert torch.equal(gradients[i], full[i])
        inputs = [t.to(device_of(backend)) for t in inputs]
        assert not self.call(inputs, backend).requires_grad
        with torch.no_grad():
            assert not self.call([t.clone().requires_grad_() for t in inputs], backend).requires_grad

    def test_native_refuses_a_second_derivative(self, native):
        inputs = [t.to(device_of(native)).requires_grad_() for t in self.inputs(padded=False)]
        gradients = torch.autograd.grad(self.call(inputs, native).sum(), inputs, create_graph=True)
        with pytest.raises(RuntimeError, match="backend='reference'"):
            sum(g.square().sum() for g in gradients).backward()

    def test_native_never_drops_a_second_derivative(self, native):
        """``autograd.grad`` follows the ways to its inputs alone, and calls what is on none of them 0."""
        inputs = [t.to(device_of(native)).requires_grad_() for t in self.inputs(padded=False)]
        for loss in (torch.sum, lambda found: found.square().sum()):
            gradients = torch.autograd.grad(loss(self.call(inputs, native)), inputs, create_graph=True)
            for gradient, leaf in itertools.product(gradients, inputs):
                with pytest.raises(RuntimeError, match="backend='reference'"):
                    torch.autograd.grad(gradient.square().sum(), leaf, allow_unused=True, retain_graph=True)

    def test_a_result_may_be_changed_in_place(self, native):
        inputs = [t.to(device_of(native)).requires_grad_() for t in self.inputs(padded=False)]
        wanted = torch.autograd.grad((self.call(inputs, native) * 2).sum(), inputs)
        found = torch.autograd.grad(self.call(inputs, native).mul_(2).sum(), inputs)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))

    def test_reference_has_a_second_derivative(self):
        inputs = [t.requires_grad_() for t in self.inputs(rows=2, padded=False)]
        assert torch.autograd.gradgradcheck(lambda *leaves: self.call(leaves, "reference"), inputs)

    def test_backward_twice_gives_the_same(self, native):
        inputs = [t.float().to(device_of(native)).requires_grad_() for t in self.inputs()]
        total = self.call(inputs, native).nan_to_num(neginf=0.0).sum()
        first = torch.autograd.grad(total, inputs, retain_graph=True)
        for a, b in zip(first, torch.autograd.grad(total, inputs), strict=True):
            assert torch.equal(a, b)

    # -- memory, threads ----------------------------------------------------------------------------

    def test_strides_do_not_matter(self, backend):
        inputs = [t.float().to(device_of(backend)) for t in self.inputs()]
        strided = [torch.stack([t, torch.full_like(t, torch.nan)], dim=-1)[..., 0] for t in inputs]
        assert not any(t.is_contiguous() for t in strided)
        assert torch.equal(self.call(inputs, backend), self.call(strided, backend))
        leaves = [t.detach().requires_grad_() for t in strided]
        value = self.call(leaves, backend)
        value.backward(torch.ones((), device=value.device).expand(value.shape))

    def test_no_result_comes_from_uninitialised_memory(self, monkeypatch, native):
        inputs = self.inputs()
        expected = self.run(inputs, native, torch.float32)
        poison(monkeypatch, native)
        value, gradients = self.run(inputs, native, torch.float32)
        assert torch.equal(value, expected[0])
        for g, e in zip(gradients, expected[1], strict=True):
            assert torch.equal(g, e)

    def test_same_bits_for_any_number_of_threads(self, monkeypatch):
        monkeypatch.setattr(_threads, "_GRAIN", 1)
        inputs, threads = self.inputs(rows=203), torch.get_num_threads()
        results = []
        try:
            for n in (1, 2, 5):
                torch.set_num_threads(n)
                results.append(self.run(inputs, "numba", torch.float32))
        finally:
            torch.set_num_threads(threads)
        for value, gradients in results[1:]:
            assert torch.equal(value, results[0][0])
            for g, e in zip(gradients, results[0][1], strict=True):
                assert torch.equal(g, e)

    def test_calls_from_several_threads_at_once(self, monkeypatch):
        monkeypatch.setattr(_threads, "_GRAIN", 1)
        inputs = self.inputs(rows=101)
        expected, _ = self.run(inputs, "numba", torch.float32)
        with ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(self.run, inputs, "numba", torch.float32) for _ in range(24)]
            assert all(torch.equal(call.result()[0], expected) for call in calls)

    # -- torch --------------------------------------------------------------------------------------

    def test_opcheck(self):
        for op, arguments in self.native_calls():
            torch.library.opcheck(op, arguments)

    def test_compiles_without_a_graph_break(self, backend):
        torch.compiler.reset()
        compiled = torch.compile(self.call, fullgraph=True, backend="aot_eager", dynamic=True)
        for rows in (3,) if interpreted(backend) else (3, 5):
            device = device_of(backend)
            inputs = [t.float().to(device) for t in self.inputs(rows=rows, padded=False)]
            leaves = [[t.clone().requires_grad_() for t in inputs] for _ in range(2)]
            expected, found = self.call(leaves[0], backend), compiled(leaves[1], backend)
            assert_near(found, expected, hair=4)
            for value in (expected, found):
                value.square().sum().backward()
            for a, b in zip(*leaves, strict=True):
                assert_near(a.grad, b.grad, hair=4)

    def test_autocast(self, backend):
        device = device_of(backend)
        inputs = [t.float().to(device).requires_grad_() for t in self.inputs(padded=False)]
        with torch.autocast(device, torch.bfloat16):
            width = inputs[-1].shape[-1]
            mixed = [*inputs[:-1], torch.nn.functional.linear(inputs[-1], torch.eye(width, device=device))]
            assert mixed[-1].dtype == torch.bfloat16
            value = self.call(mixed, backend)
        assert value.dtype == torch.float32
        value.sum().backward()
        assert all(t.grad is not None and t.grad.dtype == torch.float32 for t in inputs)

    def test_backends_are_obeyed_or_refused(self, monkeypatch):
        inputs = self.inputs()
        with pytest.raises(ValueError, match=r"unknown backend 'nunba'.*'numba'"):
            self.call(inputs, "nunba")
        assert torch.equal(self.call(inputs), self.call(inputs, "numba"))
        with (
            without_interpreter(monkeypatch),
            pytest.raises(BackendError, match=rf"{self.op} cannot run with backend='triton' on cpu.*reference"),
        ):
            self.call(inputs, "triton")


@contextlib.contextmanager
def without_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make dispatch see a machine without Triton's interpreter."""
    with monkeypatch.context() as patch:
        capability.backend_obstacle.cache_clear()
        patch.setattr(capability, "interpreting", lambda: False)
        patch.setattr(_dispatch, "_CHOSEN", {})
        yield
    capability.backend_obstacle.cache_clear()


def run_fresh(code: str) -> str:
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
