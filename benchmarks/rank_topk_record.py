"""What the figures of ``rank_topk.py`` depend on besides shapes: written beside them."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from pathlib import Path
from typing import Any

import torch

import fastkd
from fastkd.core.capability import cpu_count


def surroundings(seed: int) -> dict[str, Any]:
    """Return what the figures depend on besides the shapes."""
    names = ("numpy", "numba", "torch", "faiss", "implicit")
    modules = {name: importlib.import_module(name) for name in names if importlib.util.find_spec(name)}
    return {
        "command": "python benchmarks/rank_topk.py --peers torch,faiss,implicit --out FILE",
        "fastkd": fastkd.__version__, "python": platform.python_version(), "cpu": cpu_name(),
        "cores": cpu_count(), "threads": torch.get_num_threads(), "seed": seed, "unit": "milliseconds",
        "versions": {name: getattr(module, "__version__", "unknown") for name, module in modules.items()},
    }  # fmt: skip


def cpu_name() -> str:
    """Return the processor's model, as Linux tells it."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
