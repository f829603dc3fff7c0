"""The Speed section of the front page is what the committed results say, word for word."""

from pathlib import Path

import pytest

from benchmarks import speed

ROOT = Path(__file__).parents[2]


def test_the_front_page_is_made_of_the_committed_results():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert speed.replaced(page, speed.section()) == page, "run: python benchmarks/speed.py --write"


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="must hold"):
        speed.replaced("# fastkd", "x")


def row(**more):
    return {
        "case": "rank_topk", "point": "B=8", "pass": "forward", "contender": "fastkd", "variant": "", "p50_ms": 2.0,
        "device": "H", "device_type": "cuda", "share": 0.5, "sizes": {"U": 10, "N": 100, "D": 4, "K": 5},
    } | more  # fmt: skip


def test_without_a_gpu_the_page_says_so_and_with_one_it_shows_the_figures():
    assert "**No figure was measured on a GPU yet.**" in speed.on_gpu([row(device_type="cpu")])[0]
    lines = speed.on_gpu([row(), row(contender="torch", p50_ms=9.0)])
    assert lines[-1] == "| rank_topk, forward | B=8 | 2 ms | 50 % | 9 ms torch |"
    assert not any("No figure" in line for line in lines)


def test_a_scaled_job_is_marked():
    ours = row(case="rrd_epoch", device_type="cpu")
    theirs = row(case="rrd_epoch", device_type="cpu", contender="published", p50_ms=8e4, note="1 of 9 steps, scaled")
    assert speed.jobs([ours, theirs])[0][2] == "80 s published way*"


@pytest.mark.parametrize(("ms", "text"), [(0.5, "0.5 ms"), (254.3, "254 ms"), (1154.0, "1.15 s"), (6.04e6, "101 min")])
def test_times_are_short(ms, text):
    assert speed.time(ms) == text
