from __future__ import annotations

import pytest
import torch

from fastkd.core import Interactions
from fastkd.kernels.numba import rank_topk as kernel
from fastkd.ops import _explain_rank_topk as module
from fastkd.ops import explain_rank_topk, rank_topk
from fastkd.ops._machines import this_cpu
from tests.contracts.op_contract import run_fresh
from tests.ops.rank_topk_truth import normal, random_exclusions


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "shape", [(0, 5, 3, 2), (1, 10**7, 128, 10), (256, 10**6, 64, 100), (4096, 50 * 10**6, 64, 1000)]
)
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_every_shape_has_a_plan_a_cost_and_a_certificate(device, shape, precision):
    found = explain_rank_topk(*shape, device=device, precision=precision, exclude=min(100, shape[1]))
    assert found.backend == ("triton" if device == "cuda" else "numba")
    assert found.flops == 2.0 * shape[0] * shape[1] * shape[2]
    assert found.bytes_moved >= (shape[1] * shape[2] * 4 if shape[0] else 0)
    assert found.scratch_bytes <= 200e6
    assert found.seconds >= 0
    assert shape[3] <= found.candidates <= shape[1]
    text = str(found)
    assert all(word in text for word in ("path", "time", "certificate", found.backend, found.machine.source))


def test_the_cost_follows_the_shape():
    small, large = (explain_rank_topk(256, n, 64, 10, device="cuda") for n in (10**6, 10**7))
    assert 5 < large.seconds / small.seconds < 15
    assert 8 < large.flops / small.flops < 12
    assert explain_rank_topk(1, 10**7, 128, 10, device="cuda").limit == "memory bandwidth"
    half = explain_rank_topk(4096, 10**6, 64, 100, device="cuda", dtype=torch.bfloat16)
    assert half.bytes_moved < explain_rank_topk(4096, 10**6, 64, 100, device="cuda").bytes_moved
    assert half.relative_margin < 1e-4


@pytest.mark.parametrize("architecture", [80, "sm_90", 100])
def test_the_machine_is_named(architecture):
    found = explain_rank_topk(64, 1000, 8, 5, device="cuda", architecture=architecture)
    assert str(architecture).removeprefix("sm_") in found.machine.name
    assert this_cpu(8, False, 1).flops > 1e6


@pytest.mark.parametrize("dim", [8, 64])
def test_the_measured_certificate_holds(dim):
    users, items = normal(40, dim), normal(3000, dim, seed=1)
    found = explain_rank_topk(40, 3000, dim, 20, users=users, items=items)
    assert found.evidence == "exact"
    truth = (users.double() @ items.double().T).float()
    blas = users @ items.T
    assert 0 < float((blas - truth).abs().max()) <= found.margin
    modelled = explain_rank_topk(40, 3000, dim, 20)
    assert modelled.evidence == "modelled"
    assert 20 <= found.candidates <= 23
    assert abs(modelled.candidates - found.candidates) < 3


def test_a_real_calls_candidates_are_what_it_re_scores(monkeypatch):
    users, items, bias = normal(30, 8), normal(3000, 8, seed=1), normal(3000, seed=2)
    items[100:400] = items[:1]  # ties
    seen = random_exclusions(30, 3000, 0.02, 0)
    found = explain_rank_topk(30, 3000, 8, 20, users=users, items=items, item_bias=bias, exclude=seen)
    counted, plain = [], kernel.finish_rows

    def recorded(keys, counts, *rest):
        counted.extend(counts.tolist())
        return plain(keys, counts, *rest)

    monkeypatch.setattr(kernel, "finish_rows", recorded)
    monkeypatch.setattr(kernel, "rank_small", lambda *_: None)  # one kernel: nothing in it can be watched
    rank_topk(users, items, 20, item_bias=bias, exclude=seen, backend="numba")
    assert len(counted) == 30
    assert found.candidates == pytest.approx(sum(counted) / 30)
    assert found.evidence == "exact"
    assert "exact: counted" in str(found)


@pytest.mark.parametrize("architecture", [80, 90, 100])
def test_what_is_not_measured_is_called_modelled(architecture):
    users, items = normal(40, 8), normal(3000, 8, seed=1)
    shape = (40, 3000, 8, 20)
    for found in (
        explain_rank_topk(*shape, device="cuda", architecture=architecture),
        explain_rank_topk(*shape, device="cuda", architecture=architecture, users=users, items=items),
        explain_rank_topk(*shape),
    ):
        text = str(found).splitlines()
        assert "(modelled)" in next(line for line in text if "predicted" in line)
        gpu = found.device == "cuda"
        assert ("modelled" in found.machine.source) == gpu
        assert ("modelled" in next(line for line in text if "filter score is within" in line)) == gpu
        assert "modelled" in next(line for line in text if "candidates a user" in line)


def test_the_gaussian_model_predicts_the_candidates_of_a_bfloat16_filter():
    users, items = normal(64, 64), normal(20_000, 64, seed=1)
    arguments = {"device": "cuda", "dtype": torch.float32}
    measured = explain_rank_topk(64, 20_000, 64, 100, users=users, items=items, **arguments).candidates
    assert abs(explain_rank_topk(64, 20_000, 64, 100, **arguments).candidates / measured - 1) < 0.15
    assert measured > 110


def test_slow_cases_are_said():
    ties = torch.ones(5000, 4)
    assert "ties" in str(explain_rank_topk(3, 5000, 4, 5, users=torch.ones(3, 4), items=ties))
    ties[7] = float("nan")
    assert "NaN" in str(explain_rank_topk(3, 5000, 4, 5, users=torch.ones(3, 4), items=ties))
    assert "saves nothing on the CPU" in str(explain_rank_topk(3, 5000, 4, 5, precision="fast"))
    assert "canonically" in str(explain_rank_topk(3, 50, 200_000, 5))
    assert "few" in str(explain_rank_topk(3, 5000, 4, 5, device="cuda"))


def test_the_note_of_a_missing_numba(monkeypatch):
    monkeypatch.setattr(module, "choose", lambda *_: "reference")
    found = explain_rank_topk(3, 5000, 4, 5)
    assert found.backend == "reference"
    assert "numba is not installed" in str(found)


def test_scratch_is_what_the_kernel_takes():
    found = explain_rank_topk(256, 200_000, 16, 10)
    assert found.scratch_bytes < 200_000 * 256 * 4 / 10
    rank_topk(normal(2, 16), normal(100, 16), 3)


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ((-1, 5, 3, 2), {}, "B must be an integer"),
        ((2, 5, 3, 6), {}, r"k must be in \[0, 5\]"),
        ((2, 5, 3, 2), {"device": "gpu"}, "'cpu' or 'cuda', got 'gpu'"),
        ((2, 5, 3, 2), {"dtype": torch.int64}, "got torch.int64"),
        ((2, 5, 3, 2), {"device": "cuda", "architecture": 70}, "80, 90, 100, got 70"),
        ((2, 5, 3, 2), {"precision": "quick"}, "got 'quick'"),
        ((2, 5, 3, 2), {"exclude": 6}, r"\[0, 5\], got 6"),
        ((2, 5, 3, 2), {"exclude": Interactions.empty(3, 5)}, "3 rows for 2 users"),
        ((2, 5, 3, 2), {"users": torch.zeros(2, 3)}, "go together"),
        ((2, 5, 3, 2), {"users": torch.zeros(2, 3), "items": torch.zeros(4, 3)}, r"got \[2, 3\] and \[4, 3\]"),
    ],
)
def test_bad_input_is_named(arguments, change, message):
    with pytest.raises(ValueError, match=message):
        explain_rank_topk(*arguments, **change)


def test_explaining_a_gpu_loads_no_triton():
    code = "import sys; from fastkd import ops; ops.explain_rank_topk(64, 1000, 8, 5, device='cuda'); "
    assert run_fresh(code + "print('triton' in sys.modules)") == "False"
