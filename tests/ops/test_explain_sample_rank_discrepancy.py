from __future__ import annotations

import pytest

from fastkd.kernels._discrepancy import rule
from fastkd.ops import explain_sample_rank_discrepancy

REFRESH = (10**6, 10**6, 64, 16, 10)


def explain(shape=REFRESH, c=2.5, direction="student_to_teacher", **options):
    return explain_sample_rank_discrepancy(*shape, direction=direction, epsilon=c / shape[1], **options)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("direction", ["teacher_to_student", "student_to_teacher"])
@pytest.mark.parametrize("shape", [(0, 5, 3, 2, 1), (1, 1, 1, 1, 0), (5219, 25181, 400, 20, 240), REFRESH])
def test_every_shape_has_a_plan_and_a_cost(device, direction, shape):
    found = explain(shape, direction=direction, device=device)
    count, num_items, teacher, student, _ = shape
    assert found.flops >= 2.0 * count * num_items * (teacher + student)
    assert found.chunks == -(-count // 4096)
    assert found.scratch_bytes < 2.5e9
    assert (found.seconds > 0) == (found.bytes_moved > 0) == (count > 0)
    text = str(found)
    assert all(word in text for word in ("chunk", "whole", "scratch", found.backend, found.machine.source, direction))


def test_scratch_does_not_grow_with_users_and_cost_does():
    for device in ("cpu", "cuda"):
        few, many = (explain((count, *REFRESH[1:]), device=device) for count in (4096, 40_960))
        assert few.scratch_bytes == many.scratch_bytes
        assert (few.chunks, many.chunks) == (1, 10)
        assert 9.9 < many.seconds / few.seconds < 10.1
        assert 9.9 < many.bytes_moved / few.bytes_moved < 10.1


def test_the_proposals_are_those_of_the_kernels():
    how = rule("student_to_teacher", 2.5e-6, 10**6, "cpu", 1, True, 0)
    assert explain().proposals == how.pool(10)
    assert explain(device="cuda").proposals == -(-how.pool(10) // 32) * 32
    steep = explain(c=25.0)
    assert steep.proposals == 10**6
    assert steep.seconds > explain().seconds


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="N must be an integer of at least 1, got 0"):
        explain_sample_rank_discrepancy(1, 0, 1, 1, 1, direction="teacher_to_student", epsilon=1.0)
    with pytest.raises(ValueError, match="chunk must be an integer of at least 1, got 0"):
        explain(chunk=0)
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda', got 'gpu'"):
        explain(device="gpu")
    with pytest.raises(ValueError, match="direction must be one of"):
        explain(direction="both")
