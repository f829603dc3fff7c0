import json
import math

import pytest

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import DataError
from fastkd.evaluation.study import Curve, MetricSummary, StudyReport


def test_shares_and_the_best_student(samples):
    study = samples.study()
    by_name = {row.name: row for row in study.rows}
    assert study.recovered(by_name["RRD"]).share == pytest.approx(0.7)
    assert study.recovered(by_name["BD"]).share == pytest.approx(-0.1)
    assert study.best("").name == "RRD"
    assert study.of_role("", "teacher").name == "teacher"
    assert study.metric_names == ("ndcg@10", "recall@10")


def test_a_study_without_a_teacher_or_plain_student_has_no_shares(samples):
    rows = samples.study().rows
    assert "no teacher" in samples.study(rows=rows[1:]).recovered(rows[3]).reason
    assert "no plain student" in samples.study(rows=(rows[0], *rows[2:])).recovered(rows[3]).reason
    assert samples.study(rows=rows[:2]).best("") is None


def test_a_row_without_a_value_is_never_the_best(samples):
    rows = (samples.row("a", "distilled", math.nan), samples.row("b", "distilled", 0.1))
    assert samples.study(rows=rows).best("").name == "b"


def test_groups_are_kept_apart(samples):
    rows = tuple(
        samples.row(n, r, v, group=g)
        for g, s in (("x", 1), ("y", 2))
        for n, r, v in (("t", "teacher", 0.4 * s), ("p", "student", 0.2 * s), ("d", "distilled", 0.3))
    )
    study = samples.study(rows=rows)
    assert study.groups == ("x", "y")
    assert [study.recovered(r).share for r in rows if r.role == "distilled"] == pytest.approx([0.5, -0.25])


def test_a_study_survives_json(samples):
    study = samples.study(facts={"split": "random"}, notes=("one",))
    assert from_mapping(StudyReport, json.loads(json.dumps(to_mapping(study)))) == study


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": ()}, "at least one row"),
        ({"metric": "ndgc@10"}, "row 'teacher' has no 'ndgc@10'.*Did you mean 'ndcg@10'"),
    ],
)
def test_what_does_not_make_a_study_is_named(samples, change, says):
    with pytest.raises(DataError, match=says):
        samples.study(**change)


def test_ambiguous_rows_are_refused(samples):
    row = samples.row
    with pytest.raises(DataError, match="role 'teacher'"):
        samples.study(rows=(row("a", "teacher", 0.1), row("b", "teacher", 0.2)))
    with pytest.raises(DataError, match="name 'a'"):
        samples.study(rows=(row("a", "distilled", 0.1), row("a", "distilled", 0.2)))
    with pytest.raises(DataError, match="role 'pupil'"):
        samples.study(rows=(row("a", "pupil", 0.1),))


def test_a_curve_needs_a_value_for_each_epoch():
    with pytest.raises(DataError, match="2 epochs holds 1 values"):
        Curve((1, 2), (0.5,))


def test_one_seed_has_no_spread():
    assert MetricSummary(0.5).std == 0.0
