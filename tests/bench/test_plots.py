"""Plots: well-formed SVG, points where they belong, labels that cover nothing."""

import xml.etree.ElementTree as ET

import pytest

from fastkd.bench.plots import Guide, Series, colour, draw, number

NAMESPACE = "{http://www.w3.org/2000/svg}"


def elements(svg, name):
    return ET.fromstring(svg).findall(f".//{NAMESPACE}{name}")


def test_points_lie_on_logarithmic_axes():
    svg = draw([Series("fastkd", [(10, 1), (100, 10), (1000, 100)])], x="N", y="ms")
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in elements(svg, "circle")]
    (x0, y0), (x1, y1), (x2, y2) = circles
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert x0 < x1
    assert y0 > y1
    texts = {t.text for t in elements(svg, "text")}
    assert {"N", "ms", "10", "100", "1k"} <= texts


def test_text_is_escaped():
    svg = draw([Series("a<b", [(1, 1), (2, 2)], tips=["<&>", ""], labels=["x & y", ""])], x="N", y="<s>")
    texts = [t.text for t in elements(svg, "text")]
    assert "x & y" in texts
    assert elements(svg, "title")[0].text == "<&>"


def test_labels_do_not_cover_each_other():
    points = [(1.0 + i / 500, 1.0) for i in range(4)]
    labels = [f"label-{i}" for i in range(4)]
    svg = draw([Series("fastkd", points, labels=labels)], guides=[Guide([(0.1, 0.1), (10, 10)], "limit")], x="x", y="y")
    placed = [
        (float(t.get("x")), float(t.get("y"))) for t in elements(svg, "text") if (t.text or "").startswith("label")
    ]
    assert len(placed) == 4
    assert len({round(y) for _, y in placed}) == 4


def test_one_point_and_one_size_can_be_drawn():
    assert len(elements(draw([Series("torch", [(5, 7)])], x="x", y="y"), "circle")) == 1


def test_colours_stay_with_their_names():
    assert colour("fastkd") != colour("torch")
    assert colour("fastkd@0123456789") == colour("base")
    assert colour("somebody") == colour("somebody")


@pytest.mark.parametrize(("value", "text"), [(0.02, "0.02"), (5, "5"), (1e4, "10k"), (2e6, "2M"), (1e9, "1G")])
def test_ticks_are_short(value, text):
    assert number(value) == text
