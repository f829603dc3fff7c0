"""The registry: every case says what it must, and every number it claims can be counted by hand."""

import inspect
from pathlib import Path

import pytest

from fastkd import ops
from fastkd.bench import CASES, case_named
from fastkd.bench.case import Work, at, short
from fastkd.bench.cases import WITHOUT
from fastkd.core.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", CASES.values(), ids=lambda c: c.name)
def test_a_case_names_tests_that_exist_and_points_for_a_device(case):
    assert case.tests
    assert all((ROOT / test).is_file() for test in case.tests)
    assert all(point.tags & {"cpu", "cuda", "quick"} for point in case.points)
    assert all(sizes == tuple(sorted(sizes)) for sizes in case.sweeps.values())
    work = case.total(case.points[0], case.passes[-1])
    assert work.units > 0
    assert not case.floor or work.bytes > 0


def test_every_public_op_has_a_case_or_a_reason_why_not():
    public = {name for name in ops.__all__ if not inspect.isclass(getattr(ops, name))}
    assert public - set(CASES) == set(WITHOUT)
    assert all(len(reason) > 20 for reason in WITHOUT.values())


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.name in ops.__all__], ids=lambda c: c.name)
def test_the_case_of_an_op_runs_everywhere_and_is_held_to_its_reference(case):
    assert case.check is not None
    assert {"cpu", "cuda"} <= {tag for point in case.points for tag in point.tags}
    assert all(case.work(point).flops > 0 or case.work(point).bytes > 0 for point in case.points)


def test_an_unknown_case_is_answered_with_a_guess():
    with pytest.raises(ConfigError, match=r"no case 'rank_topc'. Did you mean 'rank_topk'"):
        case_named("rank_topc")


def test_the_work_of_a_ranking_is_that_of_its_product_and_one_read_of_the_tables():
    work = case_named("rank_topk").work(at(B=3, N=100, D=8, K=5, seen=2))
    assert work == Work(flops=2 * 3 * 100 * 8, bytes=(3 + 100) * 8 * 4 + 3 * (12 * 5 + 4 * 2), units=300)


def test_both_passes_add_up():
    case = case_named("relaxed_ranking_from_embeddings")
    point = case.points[0]
    forward, backward, both = (case.total(point, which) for which in ("forward", "backward", "both"))
    assert both == Work(forward.flops + backward.flops, forward.bytes + backward.bytes, forward.units)


def test_a_sweep_changes_one_size_at_a_time():
    case = case_named("rank_topk")
    centre = case.points[0]
    points = case.swept()
    assert all(sum(p.sizes[k] != centre.sizes[k] for k in p.sizes) <= 1 for p in points)
    assert {p["N"] for p in points} >= set(case.sweeps["N"])
    assert len({p.label() for p in points}) == len(points)


def test_a_label_reads_like_a_shape():
    assert at(B=256, N=1_000_000, D=64, dtype="bfloat16", table="trained").label() == "B=256 N=1M D=64 bfloat16 trained"
    assert short(25_181) == "25181"


def test_a_size_that_a_case_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"no size 'Q'; this case has B, N"):
        at(B=1, N=2).sized({"Q": 3})
