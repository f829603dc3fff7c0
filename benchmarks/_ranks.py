"""What the benchmarks of ranks and of draws by rank share: models, timing in turns, the file a result goes to."""

from __future__ import annotations

import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastkd.core.capability import cpu_count

RESULTS = Path(__file__).parent / "results"

Model = tuple[Tensor, Tensor]


def random_models(users: int, items: int, dims: tuple[int, ...], seed: int = 0) -> list[Model]:
    """Return independent random normal tables: models that agree on nothing."""
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(users, d, generator=random), torch.randn(items, d, generator=random)) for d in dims]


def trained_like_models(users: int, items: int, dims: tuple[int, ...], seed: int = 0) -> list[Model]:
    """Return tables as training leaves them: tastes in clusters, popular items longer, models that largely agree.

    Vectors lie around one of 64 shared centres, their dimensions weigh less and less, item norms are log-normal. A
    narrower model keeps the first dimensions of the widest, plus noise of a tenth of their size.
    """
    random = torch.Generator().manual_seed(seed)
    wide = max(dims)
    falling = (1.0 + torch.arange(wide)).rsqrt()
    centres = torch.randn(64, wide, generator=random)

    def table(rows: int) -> Tensor:
        own = torch.randint(64, (rows,), generator=random)
        return (centres[own] + torch.randn(rows, wide, generator=random)) * falling

    user, item = table(users), table(items) * torch.randn(items, 1, generator=random).mul(0.5).exp()
    found = []
    for d in dims:
        noise = 0.0 if d == wide else 0.1
        pair = tuple(t[:, :d] + noise * t[:, :d].std() * torch.randn(len(t), d, generator=random) for t in (user, item))
        found.append((pair[0].contiguous(), pair[1].contiguous()))
    return found


MODELS = {"random": random_models, "trained-like": trained_like_models}


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int, device: str = "cpu") -> dict[str, float]:
    """Return each call's median seconds: one warm-up each, then ours, peer, ours, peer ... ``rounds`` times."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in spent.items()}


def write(name: str, command: str, cases: list[dict[str, Any]], device: str = "cpu") -> None:
    """Write the cases, with what made them, to ``results/<name>.json``; cases of other commands stay."""
    path = RESULTS / f"{name}.json"
    import numba

    run = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "cores": cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "numba": numba.__version__,
        },
        "cases": cases,
    }
    runs = [r for r in json.loads(path.read_text()) if r["command"] != command] if path.exists() else []
    path.write_text(json.dumps([*runs, run], indent=2) + "\n")
