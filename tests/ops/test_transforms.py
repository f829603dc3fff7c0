"""What wraps the ops: forward mode, ``torch.func``, the compiler, export, tracing."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from fastkd import ops
from tests.contracts.closeness import wave


def single(*args):
    return wave(*args).float()


ITEMS, IDS, OTHERS = wave(9, 6, 0.7), torch.tensor([[0, 3], [5, 8], [1, 1]]), torch.tensor([[2], [7], [4]])
OPS = {
    "dropout": lambda t, b: ops.dropout(t, 0.5, seed=1, step=0, backend=b),
    "gather_dot": lambda t, b: ops.gather_dot(t, ITEMS, IDS, backend=b),
    "relaxed_ranking": lambda t, b: ops.relaxed_ranking(t, wave(3, 2, 0.3), backend=b),
    "relaxed_ranking_from_embeddings": lambda t, b: ops.relaxed_ranking_from_embeddings(
        t, ITEMS, IDS, OTHERS, backend=b
    ),
    "listnet": lambda t, b: ops.listnet(t, wave(3, 6, 0.3), backend=b),
    "weighted_bce": lambda t, b: ops.weighted_bce(t, torch.full((3, 6), 0.4, dtype=torch.float64), backend=b),
    "catalogue_softmax": lambda t, b: ops.catalogue_softmax(
        t, ITEMS, IDS[:, :1], torch.ones(3, 1, dtype=torch.float64), backend=b
    ),
    "catalogue_logsumexp": lambda t, b: ops.catalogue_logsumexp(t, ITEMS, backend=b),
    "catalogue_divergence": lambda t, b: ops.catalogue_divergence((t, ITEMS), (wave(3, 6, 0.2), ITEMS), backend=b),
    "topology_distance": lambda t, b: ops.topology_distance(
        t, wave(3, 4, 0.2), positive_only=True, backend=b
    ).loss.reshape(1),
}


pytestmark = [
    # torch, wherever forward mode begins
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning"),
    # torch's compiler, where it traces an autograd.Function with a result that has no gradient
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


@pytest.mark.parametrize("name", OPS)
def test_forward_mode_is_refused_and_not_lost(name):
    x, run = wave(3, 6, 0.4), OPS[name]
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
        run(forward_ad.make_dual(x, torch.ones_like(x)), "auto")
    with pytest.raises(RuntimeError, match="functorch transforms"):
        torch.func.jvp(lambda t: run(t, "auto"), (x,), (torch.ones_like(x),))


@pytest.mark.parametrize("name", OPS)
def test_references_have_forward_mode_and_functional_gradients(name):
    x, run = wave(3, 6, 0.4), OPS[name]
    tangent = torch.linspace(-1, 1, 18, dtype=torch.float64).view(3, 6)
    _, found = torch.func.jvp(lambda t: run(t, "reference"), (x,), (tangent,))
    gradient = torch.func.grad(lambda t: run(t, "reference").sum())(x)
    assert found.sum().item() == pytest.approx((gradient * tangent).sum().item(), rel=1e-9)
    leaf = x.clone().requires_grad_()
    run(leaf, "auto").sum().backward()
    torch.testing.assert_close(leaf.grad, gradient)


def mixture(*tensors):
    gates = torch.softmax(single(20, 3, 0.2), 1)
    return ops.expert_mixture(*tensors, gates=gates, negligible=1e-9)


COMPILED = {
    "expert_mixture": (mixture, [(20, 4), (3, 5, 4), (3, 5), (3, 5, 6), (3, 6)]),
    "hyper_projection": (ops.hyper_projection, [(20, 4), (20, 3), (5, 3), (5,), (24, 5), (24,)]),
    "topology_distance": (
        lambda s: ops.topology_distance(s, single(20, 5, 0.3), positive_only=True).loss,
        [(20, 4)],
    ),
}


@pytest.mark.parametrize("name", COMPILED)
def test_the_compiler_takes_ops_that_have_products_of_their_own(name):
    run, shapes = COMPILED[name]
    random = torch.Generator().manual_seed(3)
    tensors = [torch.randn(shape, generator=random) for shape in shapes]
    found = []
    for function in (run, torch.compile(run, backend="aot_eager")):
        leaves = [t.clone().requires_grad_() for t in tensors]
        value = function(*leaves)
        value.sum().backward()
        found.append([value.detach(), *(leaf.grad for leaf in leaves)])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


class Rows(torch.nn.Module):
    def forward(self, x):
        noise = ops.gumbel(torch.arange(x.shape[0]), x.shape[1], seed=1, step=2)
        dropped = ops.dropout(x, 0.3, seed=1, step=x.shape[0])
        return dropped + noise, ops.rank_topk(x, x, x.shape[0]).scores


@pytest.mark.parametrize("strict", [False, True])
def test_exported_counts_may_be_any(strict):
    rows, columns = (torch.export.Dim(name, min=2, max=4096) for name in ("n", "d"))
    program = torch.export.export(Rows(), (single(8, 6, 0.1),), dynamic_shapes=({0: rows, 1: columns},), strict=strict)
    x = single(11, 7, 0.2)
    for found, wanted in zip(program.module()(x), Rows()(x), strict=True):
        assert torch.equal(found, wanted)


def large():
    return single(256, 128, 0.3), single(130, 128, 0.5)


def test_tracers_see_the_product_of_a_large_linear_map():
    x, weight = large()
    assert torch.allclose(
        make_fx(lambda a, b: ops.linear(a, b))(x, weight)(x, weight), x @ weight.T, rtol=1e-4, atol=1e-4
    )
    with FakeTensorMode() as mode:
        fake = ops.linear(*(mode.from_tensor(t) for t in (x, weight)))
    assert fake.shape == (256, 130)
    with FlopCounterMode(display=False) as counter:
        ops.linear(x, weight)
    assert counter.get_total_flops() == 2 * 256 * 130 * 128
    gradient = torch.func.grad(lambda t: ops.linear(t, weight).sum())(x)
    torch.testing.assert_close(gradient, weight.sum(0).expand(256, -1), rtol=1e-4, atol=1e-4)
    assert torch.vmap(ops.linear, in_dims=(0, None))(x.expand(2, -1, -1), weight).shape == (2, 256, 130)


def test_a_linear_map_keeps_what_its_gradients_need():
    x, weight = large()
    wide = x.clone().requires_grad_()
    y = ops.linear(wide * 1.0, weight)
    held = wide * 2.0
    z = ops.linear(held, weight)
    held.detach().add_(1.0)
    with torch.no_grad():
        held.mul_(0.0)  # not needed by a frozen weight
    (y + z).sum().backward()
    torch.testing.assert_close(wide.grad, 3.0 * weight.sum(0).expand(256, -1), rtol=1e-4, atol=1e-3)
