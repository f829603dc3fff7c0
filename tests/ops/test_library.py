from __future__ import annotations

import os

import pytest
import torch

import fastkd.ops
from fastkd.core.errors import BackendError
from fastkd.kernels.numba import _threads
from fastkd.ops import _library
from fastkd.ops._checks import check_range
from fastkd.ops._library import compute_dtype, needs_gradient


def test_a_direct_call_of_a_native_op_names_the_function_that_has_a_reference():
    scores = torch.zeros(2, 3)
    with pytest.raises(BackendError, match=r"backend='reference' on cpu .*call fastkd.ops.weighted_bce"):
        torch.ops.fastkd.weighted_bce(scores, scores, None, False, "reference")


def test_a_direct_call_has_the_gradient_of_the_function():
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    direct = torch.ops.fastkd.relaxed_ranking(a, b, None, False, "auto")[0]
    function = fastkd.ops.relaxed_ranking(a, b)
    assert torch.equal(direct, function)
    for x, y in zip(*(torch.autograd.grad(t.sum(), (a, b)) for t in (direct, function)), strict=True):
        assert torch.equal(x, y)


def test_kernels_start_on_the_device_of_their_tensors(monkeypatch):
    module, entered = pytest.importorskip("fastkd.kernels.triton.pairwise"), []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            entered.append(self.device)

        def __exit__(self, *_):
            entered.append(None)

    monkeypatch.setattr(_library, "_LAUNCHERS", {})
    monkeypatch.setattr(module, "pairwise", lambda *args, gradient: (args, gradient, list(entered)))
    monkeypatch.setattr(torch.cuda, "device", Device)
    for devices, seen in ((1, []), (2, [torch.device("cuda", 1)])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda devices=devices: devices)
        _library._LAUNCHERS.clear()
        launcher = _library.launch("pairwise", "triton", torch.device("cuda", 1))
        assert launcher(1, 2, gradient=True) == ((1, 2), True, seen)
    assert entered == [torch.device("cuda", 1), None]


def test_profiler_sees_the_op():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        fastkd.ops.pairwise(torch.zeros(2, requires_grad=True), torch.zeros(2, 3))
    assert "fastkd::pairwise" in {event.key for event in profile.key_averages()}


def test_functional_transforms_are_told_what_runs_them():
    scores, table, ids = torch.randn(3, 4), torch.randn(9, 4), torch.tensor([[0], [8], [3]])
    calls = {
        "row loss": lambda t: fastkd.ops.weighted_bce(t, torch.full((3, 4), 0.5)),
        "list": lambda t: fastkd.ops.listnet_from_embeddings(t, table, ids, torch.zeros(3, 1)),
        "gather": lambda t: fastkd.ops.gather_dot(t, table, ids),
        "catalogue": lambda t: fastkd.ops.catalogue_logsumexp(t, table),
        "divergence": lambda t: fastkd.ops.catalogue_divergence((t, table), (scores, table)),
    }
    for call in calls.values():
        for transform in (torch.func.grad, torch.func.jacrev):
            with pytest.raises(RuntimeError, match=r"native fastkd ops have no gradient under functorch.*'reference'"):
                transform(lambda t, call=call: call(t).sum())(scores)


def test_only_what_is_recorded_needs_a_gradient():
    leaf, plain = torch.zeros(1, requires_grad=True), torch.zeros(1)
    assert needs_gradient(None, plain, leaf)
    assert not needs_gradient(None, plain)
    with torch.no_grad():
        assert not needs_gradient(leaf)


def test_compute_dtype_is_float32_at_least():
    half, single, double = (torch.zeros(1, dtype=t) for t in (torch.bfloat16, torch.float32, torch.float64))
    assert compute_dtype(half) == torch.float32
    assert compute_dtype(half, torch.zeros(1, dtype=torch.float16)) == torch.float32
    assert compute_dtype(single, double) == torch.float64


@pytest.mark.parametrize(("wrong", "named"), [([0, -2], -2), ([5, 0], 5), ([5, -3], -3)])
def test_checks_name_an_id_out_of_range(wrong, named):
    with pytest.raises(ValueError, match=rf"ids holds {named}, outside \[0, 5\)"):
        check_range("ids", torch.tensor(wrong), 5)
    check_range("ids", torch.tensor([-1, 4]), 5)
    check_range("ids", torch.zeros(0, dtype=torch.int64), 5)


def test_parts_cover_every_row_once(monkeypatch):
    monkeypatch.setattr(_threads, "_GRAIN", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    for rows in (0, 1, 4, 5, 13):
        seen = []
        _threads.run_rows(lambda start, stop, seen=seen: seen.extend(range(start, stop)), rows, 1e6)
        assert sorted(seen) == list(range(rows))


def test_an_error_in_a_part_reaches_the_caller():
    def fail(part: int) -> None:
        if part == 1:
            raise ZeroDivisionError(part)

    with pytest.raises(ZeroDivisionError):
        _threads.run_parts(fail, 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_makes_its_own_threads():
    results: list[int] = []
    _threads.run_parts(results.append, 2)
    child = os.fork()
    if child == 0:
        try:
            _threads.run_parts(results.append, 2)
            os._exit(0 if sorted(results) == [0, 0, 1, 1] else 1)
        finally:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
