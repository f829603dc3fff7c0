import dataclasses
import os
import re
from html.parser import HTMLParser

import pytest

from fastkd.evaluation import report as report_module
from fastkd.evaluation.report import headline, render_report, write_report

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects text and attributes, and refuses tags that do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.attributes, self.tags = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.words.append(" ".join(data.split()))


@pytest.fixture(params=["with plots", "without plots"])
def plots(request, monkeypatch):
    if request.param == "without plots":
        monkeypatch.setattr("fastkd.evaluation.plots.has_module", lambda name: False)
    else:
        pytest.importorskip("matplotlib")
    return request.param == "with plots"


def test_the_page_nests_and_holds_what_it_was_given(samples, plots):
    study = samples.study(
        explanation="First part,\nsame part.\n\nSecond part.", facts={"Split": "random"}, notes=("A note.",)
    )
    page = Page(render_report(study))
    for text in (
        "A study",
        "toy data",
        "First part, same part.",
        "Second part.",
        "Split",
        "random",
        "A note.",
        "RRD",
        "70 %",
    ):
        assert text in page.words
    assert ("svg" in page.tags) == plots
    assert any("pip install fastkd[plots]" in word for word in page.words) == (not plots)


def test_the_page_needs_nothing_from_outside_and_runs_nothing(samples, plots):
    text = render_report(samples.study())
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href", "xlink:href"):
            assert value.startswith("#")
    assert not re.search(r"url\((?!#)|@import", text)


def test_everything_supplied_is_escaped(samples, plots):
    nasty = "<script>alert('x')</script>&\"<b>"
    study = samples.study(
        title=nasty,
        dataset=nasty,
        explanation=nasty,
        facts={nasty: nasty},
        notes=(nasty,),
        published_source=nasty,
        generated=nasty,
        curve_metric=nasty,
        rows=(
            samples.row("teacher", "teacher", 0.2),
            samples.row("plain", "student", 0.1),
            samples.row(
                nasty,
                "distilled",
                0.15,
                model=nasty,
                published={"ndcg@10": 0.1, nasty: 0.2},
                versus_plain=samples.tested(),
            ),
        ),
    )
    text = render_report(study)
    assert "<script" not in text
    assert "<b>alert" not in text
    assert "&lt;script&gt;" in text
    assert nasty in Page(text).words


def test_equal_studies_give_equal_pages(samples, plots):
    assert render_report(samples.study()) == render_report(samples.study())
    dated = render_report(samples.study(generated="2031-05-06"))
    assert "2031-05-06" in dated
    assert dated != render_report(samples.study())


def test_the_finding(samples):
    assert (
        headline(samples.study())
        == "RRD recovers 70 % of the teacher's advantage in ndcg@10 with 10 % of its parameters."
    )
    rows = samples.study().rows
    assert "no distilled student in this study" in headline(samples.study(rows=rows[:2]))
    weak = (samples.row("teacher", "teacher", 0.05), *rows[1:])
    assert "undefined: the teacher (0.05) is no better" in headline(samples.study(rows=weak))
    assert headline(samples.study(rows=(*rows[:2], rows[4]))).startswith(
        "no distilled student beats the plain one in ndcg@10; BD"
    )
    lucky = samples.row("DE", "distilled", 0.12, versus_plain=samples.tested(0.02, 0.01), p_adjusted=0.2)
    report = samples.study(rows=(*rows[:2], lucky))
    assert headline(report) == (
        "no distilled student is shown to differ from the plain one in ndcg@10; DE comes out highest with 10 % of its "
        "parameters."
    )
    assert "of the gap recovered" not in Page(render_report(report)).words
    unsure = (dataclasses.replace(rows[0], versus_plain=samples.tested(0.1, 0.4)), *rows[1:])
    assert "undefined: the teacher is not shown to differ from the plain student (p = 0.4)" in headline(
        samples.study(rows=unsure)
    )
    groups = tuple(dataclasses.replace(r, group=g) for g in ("MF", "GCN") for r in rows)
    assert headline(samples.study(rows=groups)).count("recovers") == 2
    assert "GCN: RRD" in headline(samples.study(rows=groups))


def test_several_groups_and_bare_rows_render(samples, plots):
    rows = tuple(dataclasses.replace(r, group=g) for g in ("MF", "GCN") for r in samples.study().rows)
    assert "GCN" in Page(render_report(samples.study(rows=rows))).words
    bare = samples.row(
        "only", "student", 0.1, curve=None, train_seconds=None, rank_milliseconds=None, users_per_second=None
    )
    Page(render_report(samples.study(rows=(bare,))))


def test_writing_is_whole_or_not_at_all(samples, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    assert write_report(samples.study(), path) == path
    before = path.read_bytes()
    assert before.decode() == render_report(samples.study())

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_report(samples.study(title="newer"), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_page_stays_small(samples):
    pytest.importorskip("matplotlib")
    assert len(render_report(samples.study())) < 120_000
    assert report_module.report_tables(samples.study())
