"""Where a figure comes from: commit, machine, device, versions. Nothing it cannot find out is made up."""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import fastkd
from fastkd.core.capability import cpu_count, version_of

PACKAGES = (
    "torch", "triton", "numba", "numpy", "faiss-cpu", "implicit", "recbole", "fbgemm-gpu-cpu", "cuvs-cu13",
    "liger-kernel", "cut-cross-entropy", "flashlib",
)  # fmt: skip

SOURCE = Path(fastkd.__file__).resolve().parents[1]
"""The folder that holds the package: a checkout, or site-packages."""


def git(*words: str, folder: Path = SOURCE) -> str | None:
    """Return what git prints in a folder, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def checkout() -> Path | None:
    """Return the root of the checkout the package runs from, or None if it is installed."""
    return SOURCE if (SOURCE / "tests" / "ops").is_dir() and (SOURCE / "pyproject.toml").is_file() else None


def commit() -> str:
    """Return the commit of the checkout, ``+`` after it if the package differs from it; the version if installed."""
    if checkout() is None:
        return fastkd.__version__
    head = git("rev-parse", "--short=10", "HEAD")
    if head is None:
        return fastkd.__version__
    return head + ("+" if git("status", "--porcelain", "--", "fastkd", "csrc") else "")


def cpu_name() -> str:
    """Return the processor's model, as Linux tells it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def surroundings(device: str) -> dict[str, Any]:
    """Return what every row of a run carries."""
    versions = {name: version_of(name) for name in PACKAGES}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "fastkd": fastkd.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "device_type": device,
        "cores": cpu_count(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        "versions": {name: version for name, version in versions.items() if version is not None},
    }
