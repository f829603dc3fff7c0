import math

import pytest

from fastkd.evaluation.study import MetricSummary
from fastkd.evaluation.tables import MISSING, milliseconds, p_text, percent, report_tables, seconds, signed


def cells(table, name):
    at = table.columns.index("Model")
    return dict(zip(table.columns, next(r for r in table.rows if r[at] == name), strict=True))


def named(report):
    return {table.title: table for table in report_tables(report)}


def test_the_quality_table(samples):
    table = named(samples.study())["Quality"]
    assert cells(table, "RRD") == {
        "Model": "RRD",
        "ndcg@10": "0.1700 ± 0.0020",
        "recall@10": "0.3400 ± 0.0000",
        "vs plain": "+70.0 %",
        "gap recovered": "70 %",
    }
    assert cells(table, "BD")["vs plain"] == "\u221210.0 %"
    assert cells(table, "teacher")["ndcg@10"] == "0.2000"
    assert cells(table, "teacher")["gap recovered"] == cells(table, "plain")["vs plain"] == MISSING
    # The best student, not the teacher, is emphasised.
    assert table.strong == {(3, 1), (3, 2)}


def test_an_undefined_share_is_explained(samples):
    rows = samples.study().rows
    weak = samples.study(rows=(samples.row("teacher", "teacher", 0.05), *rows[1:]))
    table = named(weak)["Quality"]
    assert cells(table, "RRD")["gap recovered"] == MISSING
    assert "Undefined for RRD: the teacher (0.05) is no better than the plain student (0.1)" in table.note


def test_the_cost_table(samples):
    table = named(samples.study())["Size and speed"]
    assert cells(table, "DE") == {
        "Model": "DE",
        "type": "BPR-MF",
        "dim": "20",
        "parameters": "100,000",
        "of teacher": "10 %",
        "training": "72.0 s",
        "ranking": "12 ms",
        "users / s": "54,321",
    }
    unknown = samples.row("x", "distilled", 0.1, train_seconds=None, rank_milliseconds=None, users_per_second=None)
    row = cells(named(samples.study(rows=(unknown,)))["Size and speed"], "x")
    assert (row["training"], row["ranking"], row["users / s"], row["of teacher"]) == (MISSING,) * 4


def test_the_verdicts(samples):
    table = named(samples.study())["Against the plain student"]
    assert [row[-1] for row in table.rows] == ["better", "better", "no difference shown"]
    assert cells(table, "RRD")["p (flips)"] == "< 0.001"
    assert cells(table, "BD")["interval"] == "[\u22120.0200, +0.0000]"
    # Holm's value decides, not the plain one.
    close = samples.row("x", "distilled", 0.1, versus_plain=samples.tested(-0.02, 0.03), p_adjusted=0.06)
    assert named(samples.study(rows=(close,)))["Against the plain student"].rows[0][-1] == "no difference shown"
    worse = samples.row("x", "distilled", 0.1, versus_plain=samples.tested(-0.02, 0.03))
    assert named(samples.study(rows=(worse,)))["Against the plain student"].rows[0][-1] == "worse"


def test_published_figures_stand_beside_ours(samples):
    table = named(samples.study(published_source="Somebody et al."))["Beside published figures"]
    assert table.rows == (("RRD", "0.1700 ± 0.0020", "0.1650"),)
    assert "Somebody et al." in table.note


def test_tables_without_content_are_left_out(samples):
    plain = samples.study(rows=samples.study().rows[:2])
    assert list(named(plain)) == ["Quality", "Size and speed"]


def test_every_table_is_rectangular_and_groups_get_a_column(samples):
    rows = tuple(
        samples.row(n, r, 0.1, group=g, versus_plain=samples.tested())
        for g in "xy"
        for n, r in (("p", "student"), ("d", "distilled"))
    )
    for report in (samples.study(), samples.study(rows=rows)):
        for table in report_tables(report):
            assert all(len(row) == len(table.columns) == len(table.numeric) for row in table.rows)
            assert len(table.row_names) == len(table.rows)
    assert report_tables(samples.study(rows=rows))[0].columns[:2] == ("Group", "Model")


def test_a_missing_metric_and_nan_are_shown_as_missing(samples):
    rows = (
        samples.row("a", "student", 0.1),
        samples.row("b", "distilled", 0.1, metrics={"ndcg@10": MetricSummary(math.nan)}),
    )
    table = named(samples.study(rows=rows))["Quality"]
    assert cells(table, "b")["recall@10"] == cells(table, "b")["ndcg@10"] == cells(table, "b")["vs plain"] == MISSING


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (percent(0.714), "71 %"),
        (percent(0.0499), "5.0 %"),
        (percent(0.0996), "10 %"),
        (percent(-0.25), "\u221225 %"),
        (percent(0.0), "0 %"),
        (seconds(8.44), "8.4 s"),
        (seconds(725), "12 min 05 s"),
        (seconds(119.6), "2 min 00 s"),
        (seconds(3600 * 3 + 1201), "3 h 20 min"),
        (seconds(None), MISSING),
        (milliseconds(4.21), "4.2 ms"),
        (milliseconds(1234.5), "1,234 ms"),
        (milliseconds(12_300), "12.3 s"),
        (p_text(0.0004), "< 0.001"),
        (p_text(0.0456), "0.046"),
        (signed(-0.00123), "\u22120.0012"),
    ],
)
def test_numbers_read_well(made, text):
    assert made == text
