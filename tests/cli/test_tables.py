from rich.console import Console

from fastkd.cli.tables import narrowed, rich_table
from fastkd.evaluation import ReportTable


def test_cells_are_literal_and_the_best_is_marked():
    table = ReportTable(
        title="Quality [x]",
        columns=("Model", "ndcg@10"),
        rows=(("plain", "0.1"), ("rrd", "0.2")),
        numeric=(False, True),
        strong=frozenset({(1, 1)}),
    )
    wide = Console(width=80, force_terminal=True, color_system="standard")
    with wide.capture() as capture:
        wide.print(rich_table(table))
    shown = capture.get()
    assert "Quality [x]" in shown
    assert "\x1b[1;32m    0.2" in shown
    assert shown.count("\x1b[1;32m") == 1


def test_the_study_prints_quality_and_cost(fastkd, finished):
    shown = fastkd("report", finished).stdout
    for piece in ("Quality", "Size and speed", "plain student", "rrd", "teacher", "ndcg@10", "gap recovered"):
        assert piece in shown


def test_metrics_that_do_not_fit_are_left_out_and_named():
    table = ReportTable(
        title="Quality",
        columns=("Model", "ndcg@10", "recall@10", "map@10", "vs plain"),
        rows=(("plain", "0.1000", "0.2000", "0.3000", "-"), ("rrd", "0.2000", "0.3000", "0.4000", "+5 %")),
        numeric=(False, True, True, True, True),
        strong=frozenset({(1, 1), (1, 3)}),
        note="One seed.",
    )
    assert narrowed(table, 80) == table
    small = narrowed(table, 36)
    assert small.columns == ("Model", "ndcg@10", "recall@10", "vs plain")
    assert small.rows[1] == ("rrd", "0.2000", "0.3000", "+5 %")
    assert small.strong == {(1, 1)}
    assert "map@10" in small.note
    tiny = narrowed(table, 5)
    assert tiny.columns == ("Model", "ndcg@10", "vs plain")
