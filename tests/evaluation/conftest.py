"""A small study for the report tests."""

from types import SimpleNamespace

import pytest

from fastkd.evaluation.significance import PairedTest
from fastkd.evaluation.study import Curve, MetricSummary, StudyReport, StudyRow


def outcome(difference=0.02, p=0.01):
    return PairedTest(
        metric="ndcg@10",
        num_users=1234,
        mean_a=0.12,
        mean_b=0.10,
        mean_difference=difference,
        t_statistic=2.0,
        t_p_value=p,
        p_value=p,
        permutations=10_000,
        exact=False,
        confidence=0.95,
        low=difference - 0.01,
        high=difference + 0.01,
    )


def row(name, role, value, **changes):
    teacher = role == "teacher"
    fields = {
        "model": "LightGCN" if teacher else "BPR-MF",
        "dim": 200 if teacher else 20,
        "parameters": 1_000_000 if teacher else 100_000,
        "metrics": {"ndcg@10": MetricSummary(value, 0.0 if teacher else 0.002), "recall@10": MetricSummary(2 * value)},
        "seeds": 1 if teacher else 5,
        "train_seconds": 72.0,
        "rank_milliseconds": 12.34,
        "users_per_second": 54321.0,
        "curve": Curve((1, 2, 3), (value / 4, value / 2, value)),
    }
    return StudyRow(name=name, role=role, **{**fields, **changes})


def study(**changes):
    rows = (
        row("teacher", "teacher", 0.20),
        row("plain", "student", 0.10),
        row("DE", "distilled", 0.12, versus_plain=outcome(0.02, 0.01), p_adjusted=0.02),
        row(
            "RRD",
            "distilled",
            0.17,
            published={"ndcg@10": 0.165},
            versus_plain=outcome(0.07, 0.0001),
            p_adjusted=0.0002,
        ),
        row("BD", "distilled", 0.09, versus_plain=outcome(-0.01, 0.3), p_adjusted=0.3),
    )
    fields = {"title": "A study", "dataset": "toy data", "metric": "ndcg@10", "rows": rows}
    return StudyReport(**{**fields, **changes})


@pytest.fixture
def samples():
    """``row``, ``study`` and ``tested`` as functions, to be varied by keyword."""
    return SimpleNamespace(row=row, study=study, tested=outcome)
