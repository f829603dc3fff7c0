import itertools
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkd.evaluation.plots import ACCENTS, PLAIN, TEACHER, _spread, colours, study_plots
from fastkd.evaluation.study import Curve

pytest.importorskip("matplotlib")


def test_three_figures_of_valid_svg(samples):
    plots = study_plots(samples.study())
    assert [plot.name for plot in plots] == ["quality", "curves", "size"]
    for plot in plots:
        root = ElementTree.fromstring(plot.svg)
        assert root.tag.endswith("svg")
        text = " ".join(root.itertext())
        assert all(name in text for name in ("teacher", "plain", "RRD"))


def test_equal_studies_give_equal_figures_without_dates(samples):
    first, second = study_plots(samples.study()), study_plots(samples.study())
    assert first == second
    assert not re.search(r"20\d\d-\d\d", "".join(plot.svg for plot in first))


def test_ids_do_not_collide_between_figures_and_references_resolve(samples):
    seen = set()
    for plot in study_plots(samples.study()):
        ids = re.findall(r'\bid="([^"]+)"', plot.svg)
        assert len(ids) == len(set(ids))
        assert seen.isdisjoint(ids)
        seen.update(ids)
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', plot.svg)
        assert {a or b for a, b in used} <= set(ids)


def test_names_are_text_and_not_markup_or_formulas(samples):
    nasty = "<script>alert(1)</script> & $x_1$ _a"
    rows = (samples.row("teacher", "teacher", 0.2), samples.row(nasty, "distilled", 0.1))
    for plot in study_plots(samples.study(rows=rows)):
        assert "<script" not in plot.svg
        assert "$x_1$" in plot.svg
        ElementTree.fromstring(plot.svg)


def test_names_in_any_script_do_not_stop_the_report(samples):
    rows = (samples.row("教師", "teacher", 0.2), samples.row("_öğrenci", "student", 0.1))
    assert "教師" in study_plots(samples.study(rows=rows))[0].svg


def test_only_what_there_is_to_show(samples):
    single = samples.row("a", "student", 0.1, curve=None)
    assert [plot.name for plot in study_plots(samples.study(rows=(single,)))] == ["quality"]
    point = samples.row("a", "student", 0.1, curve=Curve((3,), (0.1,)))
    assert [plot.name for plot in study_plots(samples.study(rows=(point,)))] == ["quality", "curves"]


def test_values_that_are_not_finite_and_zeros_are_drawn_as_zero(samples):
    rows = (samples.row("a", "teacher", float("nan")), samples.row("b", "student", 0.0, parameters=0))
    for plot in study_plots(samples.study(rows=rows)):
        ElementTree.fromstring(plot.svg)


def test_a_row_has_one_colour_and_the_best_has_the_accent(samples):
    found = colours(samples.study())
    assert found["", "teacher"] == TEACHER
    assert found["", "plain"] == PLAIN
    assert found["", "RRD"] == ACCENTS[0]
    assert len(set(found.values())) == 5


def test_no_matplotlib_no_figures(samples, monkeypatch):
    monkeypatch.setattr("fastkd.evaluation.plots.has_module", lambda name: False)
    assert study_plots(samples.study()) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_labels_keep_their_order_and_their_distance(values):
    placed = _spread(values, gap=0.1, low=0.0, high=1.0)
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    steps = [placed[b] - placed[a] for a, b in itertools.pairwise(order)]
    assert all(step >= 0.1 - 1e-9 for step in steps)
