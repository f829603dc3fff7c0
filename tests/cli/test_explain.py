from fastkd.cli.config import stored_study
from fastkd.cli.explain import explain


def values(share=0.5, plain=0.2, p_value=0.001):
    student = {"parameters": 300, "dim": 3}
    return {
        "lead_metric": "ndcg@10",
        "data": {"users": 100, "items": 1000, "rows": {"train": 2000, "valid": 1, "test": 1}},
        "oracle": {"ndcg@10": 0.6},
        "teacher": {"parameters": 9000, "dim": 90, "metrics": {"ndcg@10": 0.4}},
        "students": {
            "none": {"mean": {"ndcg@10": plain}, "seeds": {"0": student}},
            "rrd": {
                "mean": {"ndcg@10": 0.3},
                "seeds": {"0": student},
                "recovered": {"ndcg@10": share},
                "against_plain": {"ndcg@10": {"p_value": p_value}},
            },
        },
    }


def text(finished, **changes):
    return explain(stored_study(finished), values(**changes))


def test_every_number_comes_from_the_results(finished):
    shown = text(finished)
    for piece in ("100 users", "1,000 items", "20 clicks", "2.0 %", "0.6000", "9,000 parameters", "0.4000", "0.2000"):
        assert piece in shown
    assert "gap of 0.2000, 50 %" in shown
    assert "rrd 0.3000 (+50 % of the gap)" in shown
    assert "30 such items per user" in shown


def test_failures_are_told(finished):
    assert "that did not help" in text(finished, share=-0.1)
    assert "perhaps by chance: p = 0.4" in text(finished, p_value=0.4)
    assert "nothing to hand over" in text(finished, plain=0.5, share=None)
