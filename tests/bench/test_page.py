"""The page: opens offline, shows every figure, plots what was swept."""

import re
from html.parser import HTMLParser

from fastkd.bench.case import at
from fastkd.bench.page import machines, render, rooflines, scaling, write_page
from fastkd.bench.record import append, completed
from fastkd.bench.roofline import Roofline
from fastkd.bench.where import surroundings

ROOF = Roofline(2e10, {"float32": 1e11}, 2)


def row(contender="fastkd", case="rank_topk", ms=1.0, **sizes):
    point = at(**({"B": 8, "N": 1000, "D": 4, "K": 2} | sizes))
    found = {
        "case": case, "point": point.label(), "sizes": dict(point.sizes), "dtype": "float32", "table": "random",
        "pass": "forward", "contender": contender, "variant": "", "p20_ms": ms, "p50_ms": ms, "p80_ms": ms, "rounds": 5,
        "first_ms": 2 * ms, "over_fastkd": 1.0, "peak_bytes": 1000 * point["N"], "threads": 2, "gate": "tests",
        "unit": "scores", "units_per_s": 1e9, "flops": 1e6, "bytes": 1e5, "gb_per_s": 0.1 / ms, "gflop_per_s": 1 / ms,
        "floor_ms": 0.01, "limit": "memory", "share": 0.01 / ms,
    }  # fmt: skip
    return completed(found, surroundings("cpu"), ROOF)


class Balanced(HTMLParser):
    """Counts what is open."""

    open = 0

    def handle_starttag(self, tag, attrs):
        self.open += tag not in ("meta",)

    def handle_endtag(self, tag):
        self.open -= 1

    def handle_startendtag(self, tag, attrs):
        pass


def rows():
    sweep = [
        row(who, N=n, ms=n / 1000 * slow) for n in (1000, 4000, 16_000) for who, slow in (("fastkd", 1), ("torch", 3))
    ]
    skipped = {k: v for k, v in row("faiss").items() if not k.endswith("_ms")} | {"skipped": "no <mask> per user"}
    return [*sweep, row(case="job", ms=5.0) | {"note": "2 of 9 steps, scaled"}, skipped]


def test_the_page_needs_nothing_from_outside(tmp_path):
    append(tmp_path, rows())
    page = write_page(tmp_path).read_text()
    assert not re.search(r"<(script|link|img|iframe)\b", page)
    assert not [u for u in re.findall(r"https?://[^\"' <]+", page) if u != "http://www.w3.org/2000/svg"]
    parser = Balanced()
    parser.feed(page)
    assert parser.open == 0


def test_everything_measured_is_shown_and_escaped():
    page = render(rows())
    for text in ("rank_topk", "N=16k", "2 of 9 steps, scaled", "no &lt;mask&gt; per user", "copy 20 GB/s"):
        assert text in page
    assert page.count("<svg") == 3  # a roofline, time in N, memory in N
    assert "Memory against N" in page


def test_a_plot_is_drawn_for_what_was_swept_alone():
    assert [title for title, _ in scaling(rows(), "p50_ms", "ms")] == ["rank_topk forward in N, B=8 D=4 K=2"]
    assert scaling([row(N=1), row(N=2)], "p50_ms", "ms") == []


def test_variants_timed_side_by_side_have_a_line_each():
    found = [row("torch", ms=m, N=n) | {"variant": v} for n in (1, 2, 4) for v, m in (("sparse", 1.0), ("dense", 2.0))]
    _, svg = scaling(found, "p50_ms", "ms")[0]
    assert svg.count("<polyline") == 2
    assert ">torch, sparse<" in svg
    assert ">torch, dense<" in svg
    quickest = [row("torch", N=n) | {"variant": v} for n, v in ((1, "sparse"), (2, "dense"), (4, "dense"))]
    assert scaling(quickest, "p50_ms", "ms")[0][1].count("<polyline") == 1


def test_a_machine_is_told_once_with_all_its_commits():
    found = machines([row() | {"commit": "a"}, row() | {"commit": "b"}, row() | {"threads": 1, "commit": "b"}])
    assert [one["commit"] for one in found] == ["a, b", "b"]


def test_a_roofline_for_each_device_and_thread_count():
    assert len(rooflines([row(), row() | {"threads": 1}])) == 2
    assert rooflines([{k: v for k, v in row().items() if k != "flops"}]) == []


def test_an_empty_folder_makes_a_page_too():
    assert "<h1>" in render([])
