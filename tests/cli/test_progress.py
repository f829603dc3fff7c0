import io

import pytest
from rich.console import Console

from fastkd.cli import progress
from fastkd.cli.progress import Counter, Display, metrics_text


def quiet():
    return Console(file=io.StringIO(), width=200)


def live():
    return Console(file=io.StringIO(), width=200, force_terminal=True)


def test_a_line_has_share_rate_and_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counter = Counter("rrd seed 0", 10, "rows", lambda _: None, started=100.0)
    now[0] = 104.0
    counter.advance(4, rows=4000)
    counter.say("epoch 1/3")
    assert counter.line() == "rrd seed 0: 40 %  epoch 1/3  1 000 rows/s  6.0 s left"


def test_a_resumed_counter_reckons_from_where_it_began(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counter = Counter("x", 1, "rows", lambda _: None, started=0.0)
    counter.start(50, 100)
    now[0] = 10.0
    counter.advance(10)
    assert counter.line() == "x: 60 %  40 s left"


def test_without_a_terminal_lines_are_sparse(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = quiet()
    with Display(console) as display, display.counter("work", 1000) as counter:
        for _ in range(1000):
            now[0] += 0.025  # 25 s in all
            counter.advance(rows=1)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("work: ") for line in lines)


def test_on_a_terminal_there_are_bars():
    console = live()
    with Display(console) as display:
        display.plan(3)
        with display.counter("work", 10) as counter:
            counter.advance(5, rows=10)
            counter.say("half way")
            display._progress.refresh()
        display.run_done()
    assert "half way" in console.file.getvalue()


def test_a_stage_leaves_a_line_and_only_when_it_succeeds():
    console = quiet()
    with Display(console) as display:
        with display.stage("data"):
            pass
        with pytest.raises(ValueError, match="no"), display.stage("worse"):
            raise ValueError("no")
    assert console.file.getvalue().startswith("✓ data  0.0 s")
    assert "worse" not in console.file.getvalue()


def test_what_is_shown_is_taken_literally():
    console = quiet()
    with Display(console) as display:
        display.say("[red]x")
        display.done("[/nonsense]")
    assert console.file.getvalue().splitlines() == ["[red]x", "✓ [/nonsense]"]


def test_metrics_text_takes_what_is_there():
    assert metrics_text({"ndcg@10": 0.12345}, ("ndcg@10", "recall@10")) == "ndcg@10 0.1235"
