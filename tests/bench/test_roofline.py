"""Roofline: measured numbers are possible ones, and a floor is the longer of two times."""

import pytest
import torch

from fastkd.bench import roofline
from fastkd.bench.case import Work
from fastkd.bench.roofline import Roofline, measure


def test_the_floor_is_the_limit_that_takes_longer():
    roof = Roofline(bandwidth=10.0, matrix={"float32": 100.0, "bfloat16": 1000.0}, threads=1)
    assert roof.floor(Work(flops=50.0, bytes=20.0, units=1), "float32") == (2.0, "memory")
    assert roof.floor(Work(flops=500.0, bytes=20.0, units=1), "float32") == (5.0, "matrix")
    assert roof.floor(Work(flops=500.0, bytes=1.0, units=1), "bfloat16") == (0.5, "matrix")
    assert roof.floor(Work(flops=500.0, bytes=1.0, units=1), "float64") == (5.0, "matrix")


def test_a_machine_is_measured_with_all_threads_and_with_one(monkeypatch):
    monkeypatch.setitem(roofline.COPY, "cpu", 1_000_000)
    monkeypatch.setitem(roofline.SIDE, "cpu", 128)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = measure("cpu", seconds=0.05)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert found.threads == 2
    assert found.one is not None
    assert found.one.threads == 1
    for limits in (found, found.one):
        assert 1e8 < limits.bandwidth < 1e13
        assert 1e8 < limits.matrix["float32"] < 1e15


@pytest.mark.parametrize("threads", [1])
def test_one_thread_is_measured_once(monkeypatch, threads):
    monkeypatch.setitem(roofline.COPY, "cpu", 100_000)
    monkeypatch.setitem(roofline.SIDE, "cpu", 64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert measure("cpu", seconds=0.02).one is None
    finally:
        torch.set_num_threads(before)
