from __future__ import annotations

import numpy as np
import pytest

from fastkd.distillation.cost import Cost, Shape, Work, distinct, held, ranking, scoring, storing

SHAPE = {"users": 100, "items": 1000, "dim": 4, "teacher_dim": 16, "batch": 32, "interactions": 2000}


def test_distinct_is_what_draws_find():
    random = np.random.default_rng(0)
    found = [len(set(random.integers(0, 50, 80).tolist())) for _ in range(4000)]
    assert distinct(80, 50) == pytest.approx(np.mean(found), rel=0.01)
    assert distinct(5, 1) == 1.0
    assert distinct(1, 10**9) == pytest.approx(1.0)
    assert Shape(**SHAPE).batch_users == distinct(32, 100)


def test_counts_by_hand():
    assert ranking(100, 1000, 4) == Work(2 * 100 * 1000 * 4, 4 * 4 * (100 + 1000))
    assert ranking(8193, 10, 1).bytes == 4 * (8193 + 2 * 10)
    assert scoring(7, 5, 4, gradient=False) == Work(2 * 7 * 5 * 4, 4 * 7 * 5 * 4)
    assert scoring(7, 5, 4).flops == 3 * scoring(7, 5, 4, gradient=False).flops
    assert storing(10, 3, values=2) == Work(0, held(10, 3, values=2)) == Work(0, 240)
    assert Work(1, 2) + Work(3, 4) * 2 == Work(7, 10)
    assert Cost(step=Work(1, 1)).refresh == Work()


@pytest.mark.parametrize("name", SHAPE)
def test_a_size_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Shape(**{**SHAPE, name: 0})
