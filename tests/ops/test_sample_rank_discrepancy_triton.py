from __future__ import annotations

import pytest
import torch

from fastkd.core import Interactions
from fastkd.ops import sample_rank_discrepancy, sample_ranked, sample_softmax, sample_unobserved
from tests.contracts.backends import device_of
from tests.ops.test_sample_rank_discrepancy import exclusions, tables


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize(("direction", "epsilon"), [("teacher_to_student", 0.05), ("student_to_teacher", 0.012)])
def test_triton_draws_the_same(direction, epsilon, replacement, monkeypatch):
    from fastkd.kernels.triton import sample_rank_discrepancy as triton_kernel

    device = device_of("triton")
    teacher, student = tables(3, 110, 6, 0), tables(3, 110, 4, 1)
    options = {
        "direction": direction, "epsilon": epsilon, "exclude": exclusions(3, 110, 0.2), "seed": 1, "epoch": 2,
        "replacement": replacement,
    }  # fmt: skip
    monkeypatch.setattr(triton_kernel, "MAX_POOL", 64)  # several pools
    expected = sample_rank_discrepancy(teacher, student, 5, backend="numba", **options)
    on_device = [tuple(t.to(device) for t in model) for model in (teacher, student)]
    found = sample_rank_discrepancy(*on_device, 5, backend="triton", complete=False, **options).cpu()
    assert (found >= 0).float().mean() > 0.9
    assert torch.equal(found.where(found >= 0, expected), expected)
    assert torch.equal(sample_rank_discrepancy(*on_device, 5, backend="triton", **options).cpu(), expected)


def test_triton_leaves_what_it_cannot_accept_to_inversion():
    device, model = device_of("triton"), tables(2, 40, 4, 0)
    on_device = tuple(t.to(device) for t in model)
    options = {"direction": "teacher_to_student", "epsilon": 0.1, "exclude": Interactions.empty(2, 40), "seed": 0}
    left = sample_rank_discrepancy(on_device, on_device, 3, epoch=0, backend="triton", complete=False, **options)
    assert (left == -1).all()
    found = sample_rank_discrepancy(on_device, on_device, 3, epoch=0, backend="triton", **options)
    assert torch.equal(found.cpu(), sample_rank_discrepancy(model, model, 3, epoch=0, backend="numba", **options))


def test_opcheck_and_compile():
    teacher, student, seen = tables(5, 60, 6, 0), tables(5, 60, 4, 1), exclusions(5, 60, 0.2)
    options = {"direction": "teacher_to_student", "epsilon": 0.05, "exclude": seen, "seed": 1, "epoch": 2}

    def draw(t, s):
        return sample_rank_discrepancy(t, s, 4, backend="numba", **options)

    seen.to_torch()  # as any call does that is not compiled
    torch.compiler.reset()
    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(teacher, student), draw(teacher, student))
    op, offsets = torch.ops.fastkd.sample_rank_discrepancy.default, torch.arange(6) * 4
    torch.library.opcheck(
        op,
        (*teacher, *student, torch.arange(5), False, offsets, 20, 4, *seen.to_torch(), 60, "teacher_to_student", 0.05,
         1, True, True, 1, 2, "numba"),
    )  # fmt: skip


@pytest.mark.gpu
class TestOnAGpu:
    def calls(self, rows, num_items):
        teacher, student = (tuple(t.cuda() for t in tables(rows, num_items, d, d)) for d in (64, 16))
        seen, users = Interactions.empty(rows, num_items), torch.arange(rows, device="cuda")
        options = {"seed": 1, "epoch": 2}
        return {
            "rank_discrepancy": lambda: sample_rank_discrepancy(
                teacher, student, 10, direction="student_to_teacher", epsilon=2.5 / num_items, exclude=seen,
                complete=False, **options,
            ),
            "ranked": lambda: sample_ranked(users, 500, 40, temperature=10.0, **options),
            "softmax": lambda: sample_softmax(*teacher, 10, temperature=1.0, **options),
            "unobserved": lambda: sample_unobserved(seen, users, 40, validate=False, **options),
        }  # fmt: skip

    def test_no_call_waits_for_the_device_and_all_can_be_captured(self):
        for name, call in self.calls(64, 20_000).items():
            expected = call()
            torch.cuda.set_sync_debug_mode("error")
            try:
                again = call()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert torch.equal(again, expected), name
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                found = call()
            graph.replay()
            assert torch.equal(found, expected), name

    def test_memory_stays_far_below_one_score_per_user_and_item(self):
        rows, num_items = 1024, 1_000_000
        for name, call in self.calls(rows, num_items).items():
            call()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            assert torch.cuda.max_memory_allocated() - before < 0.1 * 4 * rows * num_items, name
