"""What a student's loss was made of: the share of the base loss and of each method's term, from its log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PART = "kd/share_"
_KEPT = "kd/pckd_order_kept"


def loss_shares(run: Path) -> dict[str, float] | None:
    """Return part -> share of the training loss in the last epoch of a run folder; None without a method's term.

    Parts: ``base``, and ``kd`` or the methods of a combination. Terms count by their size: one may be negative.
    """
    last = _last_losses(run)
    if "kd" not in last:
        return None
    base, kd = abs(last.get("base", 0.0)), abs(last["kd"])
    total = (base + kd) or 1.0
    shares = {"base": base / total} if "base" in last else {}
    parts = {key.removeprefix(_PART): value for key, value in last.items() if key.startswith(_PART)}
    return shares | ({name: part * kd / total for name, part in parts.items()} or {"kd": kd / total})


def order_kept(run: Path) -> float | None:
    """Return the share of user preference order that PCKD's projectors kept in the last epoch; None for others."""
    kept = _last_losses(run).get(_KEPT)
    return None if kept is None else float(kept)


def _last_losses(run: Path) -> dict[str, Any]:
    """Return the mean losses of a run's last epoch, nothing where none was logged."""
    file = run / "metrics.jsonl"
    last: dict[str, Any] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.get("event") == "epoch":
                last = entry.get("losses") or {}
    return last


def share_notes(students: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return sentences on students that have shares (``results.json``: name -> its values)."""
    notes = []
    for name, values in students.items():
        shares = values.get("loss_shares")
        if shares:
            parts = ", ".join(f"{part} {100 * share:.0f} %" for part, share in shares.items())
            notes.append(f"Loss of {name} in its last epoch: {parts}.")
        if values.get("order_kept") is not None:
            notes.append(f"Projectors of {name} kept {100 * values['order_kept']:.0f} % of users' order of items.")
    return tuple(notes)
