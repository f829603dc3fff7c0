"""A pytest plugin for a bare machine: tests that need a package which is not installed are skipped by its name.

``python -m pytest -p benchmarks.gpu_left_out ...``. Without it one file that cannot be imported ends the whole run.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest

_MISSING = re.compile(r"ModuleNotFoundError: No module named '(?!fastkd|tests|benchmarks)([^'.]+)")
_NO_BACKEND = re.compile(r"BackendError: .*the package (numba) is not installed")
Report = Generator[None, Any, Any]


def missing(text: str) -> str | None:
    """Return the package, not of this project, for whose absence a report failed, or None."""
    found = _MISSING.search(text) or _NO_BACKEND.search(text)
    return found[1] if found else None


def left_out(report: Any, path: str) -> Any:
    """Return the report as a skip if a package is missing, else as it is."""
    package = missing(str(report.longrepr)) if report.outcome == "failed" else None
    if package is not None:
        report.outcome, report.longrepr = "skipped", (path, 0, f"Skipped: {package} is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Report:
    """Leave a file out whose import fails for a missing package."""
    report = yield
    return left_out(report, str(collector.path))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Report:
    """Leave a test out that finds a package missing as it runs."""
    report = yield
    return left_out(report, str(item.path))
