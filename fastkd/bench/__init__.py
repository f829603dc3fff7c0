"""Throughput benchmarking: one registry of cases, this machine's limits, peers side by side, a page of figures."""

from fastkd.bench.case import Case, Point, Work, at
from fastkd.bench.cases import CASES, case_named
from fastkd.bench.roofline import Roofline, measure
from fastkd.bench.run import Settings, chosen, run_case

__all__ = [
    "CASES",
    "Case",
    "Point",
    "Roofline",
    "Settings",
    "Work",
    "at",
    "case_named",
    "chosen",
    "measure",
    "run_case",
]
