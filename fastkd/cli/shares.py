"""What a student's loss was made of: the share of the base loss and of each method's term, from its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PART = "kd/share_"


def loss_shares(run: Path) -> dict[str, float] | None:
    """Return part -> share of the training loss in the last epoch of a run folder; None without a method's term.

    Parts: ``base``, and ``kd`` or the methods of a combination. Terms count by their size: one may be negative.
    """
    file = run / "metrics.jsonl"
    if not file.is_file():
        return None
    last: dict[str, Any] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry.get("event") == "epoch":
            last = entry.get("losses") or {}
    if "kd" not in last:
        return None
    base, kd = abs(last.get("base", 0.0)), abs(last["kd"])
    total = (base + kd) or 1.0
    shares = {"base": base / total} if "base" in last else {}
    parts = {key.removeprefix(_PART): value for key, value in last.items() if key.startswith(_PART)}
    return shares | ({name: part * kd / total for name, part in parts.items()} or {"kd": kd / total})


def share_notes(students: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a sentence for each student that has shares (``results.json``: name -> its values)."""
    notes = []
    for name, values in students.items():
        shares = values.get("loss_shares")
        if shares:
            parts = ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items())
            notes.append(f"Loss of {name} in its last epoch: {parts}.")
    return tuple(notes)
