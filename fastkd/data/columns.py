"""From Arrow batches to an :class:`InteractionLog`: which column plays which role, and batches in one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pyarrow as pa

from fastkd.core.errors import DataError, FastKDWarning, did_you_mean
from fastkd.data._values import Ids, Numbers
from fastkd.data.log import InteractionLog, ReadOptions, ways_to_set

USUAL_NAMES = {
    "user": ("user", "user_id", "userid", "uid", "reviewerid", "reviewer_id", "session_id"),
    "item": (
        "item",
        "item_id",
        "itemid",
        "iid",
        "movieid",
        "movie_id",
        "asin",
        "business_id",
        "product_id",
        "parent_asin",
    ),
    "rating": ("rating", "ratings", "stars", "overall", "score"),
    "time": ("time", "timestamp", "ts", "datetime", "date", "unixreviewtime"),
}


def choose_columns(found: Sequence[str], options: ReadOptions, source: str) -> dict[str, str]:
    """Return role -> column name; ``user`` and ``item`` are always there, the others where found or named.

    A column whose name another has too is refused: nothing says which of them is meant.
    """
    by_lower = {name.lower(): name for name in reversed(list(found))}
    chosen: dict[str, str] = {}
    for role in ("user", "item", "rating", "time", "split"):
        wanted = getattr(options, role)
        if wanted == "" and role not in ("user", "item"):
            continue
        if wanted:
            if wanted not in found:
                raise DataError(
                    f"{source}: no column {wanted!r} for {role}.{did_you_mean(wanted, found)} {_listing(found)}"
                )
            chosen[role] = wanted
            continue
        usual = [by_lower[name] for name in USUAL_NAMES.get(role, ()) if name in by_lower]
        if usual:
            chosen[role] = usual[0]
        elif role in ("user", "item"):
            near = did_you_mean(role, found)
            raise DataError(f"{source}: no {role} column.{near} {_listing(found)}; name it: {ways_to_set(role)}")
    if chosen["user"] == chosen["item"]:
        raise DataError(f"{source}: column {chosen['user']!r} is named for both user and item")
    for role, name in chosen.items():
        _refuse_twins(role, name, found, source, named=bool(getattr(options, role)))
    return chosen


def _refuse_twins(role: str, name: str, found: Sequence[str], source: str, *, named: bool) -> None:
    """Refuse a column that another is named like; letter case tells them apart only where the caller named one."""
    twins = [other for other in found if other == name or (not named and other.lower() == name.lower())]
    if len(twins) > 1:
        advice = "rename all but one" if len(set(twins)) < len(twins) else f"name one: {ways_to_set(role)}"
        raise DataError(
            f"{source}: {len(twins)} columns could be the {role}: {', '.join(map(repr, twins))}; {advice}. "
            f"{_listing(found)}"
        )


def _listing(found: Sequence[str]) -> str:
    shown = ", ".join(repr(str(name)) for name in list(found)[:20])
    return f"Columns found: {shown}{', ...' if len(found) > 20 else ''}"


class LogBuilder:
    """Collects record batches into an :class:`InteractionLog`.

    ``roles``: of :func:`choose_columns`. ``text``: ids were written as text, so that text may mean integers.
    ``found``: all columns of the source.
    """

    def __init__(
        self, roles: dict[str, str], source: str, options: ReadOptions, *, text: bool, found: Sequence[str] = ()
    ) -> None:
        self.source = source
        self.roles = dict(roles)
        self.found = found
        self.rows = 0
        self._lenient_time = options.lenient_time and options.time is None
        self._ids = {r: Ids(source, c, text, r) for r, c in roles.items() if r in ("user", "item", "split")}
        self._numbers = {r: Numbers(source, c, r == "time") for r, c in roles.items() if r in ("rating", "time")}

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in one batch; its values are checked now."""
        if not batch.num_rows:
            return
        builders: dict[str, Ids | Numbers] = {**self._ids, **self._numbers}
        for role, builder in builders.items():
            try:
                builder.add(batch.column(self.roles[role]), self.rows)
            except DataError as error:
                if role != "time" or not self._lenient_time:
                    raise
                self._leave_out_time(error)
        self.rows += batch.num_rows

    def _leave_out_time(self, error: DataError) -> None:
        """Go on without times: nobody named the column, and nobody needs it."""
        del self._numbers["time"], self.roles["time"]
        warnings.warn(
            f"{error}. The column was found by its name and is left out: there are no times. "
            "Name the column that has them with time_column, or none with time_column=''",
            FastKDWarning,
            stacklevel=2,
        )

    def finish(self) -> InteractionLog:
        """Return the log; a source without rows is refused."""
        if not self.rows:
            raise DataError(f"{self.source}: no rows")
        ids = {role: builder.finish() for role, builder in self._ids.items()}
        numbers = {role: builder.finish() for role, builder in self._numbers.items()}
        return InteractionLog(
            ids["user"],
            ids["item"],
            numbers.get("rating"),
            numbers.get("time"),
            ids.get("split"),
            self.source,
            columns=self.roles,
            unread=tuple(name for name in self.found if name not in self.roles.values()),
            dated="time" in self._numbers and bool(self._numbers["time"].dated),
        )
