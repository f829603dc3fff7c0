import math

import pytest

from fastkd.evaluation.recovered import recovered_share


@pytest.mark.parametrize(
    ("teacher", "student", "distilled", "share"),
    [(0.3, 0.1, 0.2, 0.5), (0.3, 0.1, 0.3, 1.0), (0.3, 0.1, 0.1, 0.0), (0.3, 0.1, 0.05, -0.25), (0.3, 0.1, 0.4, 1.5)],
)
def test_share_of_the_gap(teacher, student, distilled, share):
    found = recovered_share(teacher, student, distilled)
    assert found.share == pytest.approx(share)
    assert found.reason is None


@pytest.mark.parametrize(("teacher", "student"), [(0.1, 0.1), (0.1, 0.2)])
def test_no_gap_no_share(teacher, student):
    found = recovered_share(teacher, student, 0.3)
    assert found.share is None
    assert f"({teacher:.4g}) is no better than the plain student ({student:.4g})" in found.reason


def test_a_missing_value_gives_no_share():
    found = recovered_share(0.3, 0.1, math.nan)
    assert found.share is None
    assert "distilled has no value (nan)" in found.reason
