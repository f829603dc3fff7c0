"""From options to points."""

import pytest
import torch

from fastkd.bench import CASES
from fastkd.bench.roofline import Roofline
from fastkd.cli import bench_runs
from fastkd.cli.bench_runs import QUICK_SECONDS, Wanted, prepare


def test_every_case_that_has_points_for_the_device_is_run():
    names = {case.name for case, _ in prepare(Wanted(device="cpu")).todo}
    assert names == {
        name for name, case in CASES.items() if any(p.tags >= {"cpu"} and "slow" not in p.tags for p in case.points)
    }
    assert {case.name for case, _ in prepare(Wanted(device="cpu", slow=True)).todo} > names


def test_a_quick_run_is_small():
    run = prepare(Wanted(device="cpu", quick=True))
    points = [point for _, points in run.todo for point in points]
    assert 5 <= len(points) <= 12
    assert all("quick" in point.tags for point in points)
    assert run.settings.seconds == QUICK_SECONDS


def test_a_shape_replaces_sizes_dtype_and_table_of_the_first_point():
    run = prepare(Wanted(device="cpu", cases=("rank_topk",), shapes=("N=1e6,dtype=bfloat16,table=trained", "K=7")))
    ((case, (first, second)),) = run.todo
    centre = next(p for p in case.points if "cpu" in p.tags)
    assert (first["N"], first.dtype, first.table) == (1_000_000, "bfloat16", "trained")
    assert second["K"] == 7
    assert {k: v for k, v in second.sizes.items() if k != "K"} == {k: v for k, v in centre.sizes.items() if k != "K"}


def test_threads_are_set():
    before = torch.get_num_threads()
    try:
        prepare(Wanted(device="cpu", threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_missing_gpu_is_said():
    with pytest.raises(ValueError, match="torch sees no CUDA device"):
        prepare(Wanted(device="cuda"))


def test_a_quick_run_begins_nothing_when_its_time_is_up(monkeypatch):
    monkeypatch.setattr(bench_runs, "judge_together", lambda cases, quick: None)
    monkeypatch.setattr(bench_runs, "QUICK_LIMIT", -1.0)
    run = prepare(Wanted(device="cpu", quick=True))
    rows = list(run.rows(Roofline(1e10, {"float32": 1e11}, 1)))
    assert [row["case"] for row in rows] == [case.name for case, _ in run.todo]
    assert all("the next one gets further" in row["skipped"] for row in rows)
