"""What reading a source found: its rows, the columns that were used, and the rows that each step left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STEPS = {
    "unlabelled": "no split label",
    "min_rating": "rating too low",
    "duplicates": "repeats",
    "core": "outside the core",
    "users_without_train": "users not in train",
}
"""Step -> why it leaves rows out, in the order of the steps."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read, and how much of it stayed.

    ``rows``: of the source. ``columns``: role (``user``, ``item``, ``rating``, ``time``, ``split``) -> the column that
    was read for it; empty where a source names none. ``left_out``: step -> rows that it left out, see ``STEPS``.
    """

    rows: int
    columns: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[tuple[str, str]]:
        """Return (name, value) pairs in reading order, for a table; steps that left nothing out are not named."""
        named = ", ".join(f"{role} {column!r}" for role, column in self.columns.items())
        lines = [("rows read", f"{self.rows:,}"), *([("columns read", named)] if named else [])]
        left_out = [(step, rows) for step, rows in self.left_out.items() if rows]
        return lines + [(f"left out: {STEPS.get(step, step)}", f"{rows:,}") for step, rows in left_out]
