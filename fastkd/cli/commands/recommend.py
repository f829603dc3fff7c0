"""``fastkd recommend``: the best items of every user to one file, in the ids of the source data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import numpy as np
import typer
from numpy.typing import NDArray

from fastkd.cli.console import count, duration, print_json, print_text, success
from fastkd.cli.options import Json, Run
from fastkd.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fastkd.core.interactions import Interactions
    from fastkd.data import Dataset
    from fastkd.serving import RecommendPreview


def recommend(
    run: Run,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write: .parquet or .csv.", show_default=False)],
    k: Annotated[int, typer.Option(min=1, help="Items per user.")] = 100,
    users: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Users to serve: one original id per line.", show_default="all"),
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also recommend items the user has had.")
    ] = False,
    include_held_out: Annotated[
        bool,
        typer.Option("--include-held-out", help="Leave out training items only: for lists that are to teach."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the predicted path, time and bytes; rank nothing."),
    ] = False,
    json: Json = False,
) -> None:
    """Write each user's best items as rows (user, item, rank, score), in original ids.

    Seen items (all parts of the data) are left out unless --include-seen.

    Example:  fastkd recommend runs/demo/students/rrd/seed0 --k 100 --out lists.parquet

    Lists for `fastkd distill --teacher`:  fastkd recommend runs/demo/teacher --include-held-out --k 600 --out l.parquet
    """
    from fastkd.cli.folders import study_of
    from fastkd.cli.progress import Display
    from fastkd.cli.runs import load_run
    from fastkd.data import open_store
    from fastkd.serving import RecommendOptions, preview
    from fastkd.serving import recommend as write
    from fastkd.serving.recommend import check_request

    if include_seen and include_held_out:
        raise ConfigError(
            "--include-seen leaves nothing out, --include-held-out leaves out training items; give one of them"
        )
    dataset = open_store(study_of(run) / "data")
    wanted = None if users is None else read_users(users, dataset)
    model = load_run(run, dataset)
    seen = None if include_seen else dataset.train if include_held_out else all_seen(dataset)
    total = dataset.num_users if wanted is None else len(wanted)
    options = RecommendOptions(k=k)
    if dry_run:
        check_request(out, wanted, dataset.users)
        show_preview(preview(model, total, exclude=seen, options=options), json=json)
        return
    with Display() as display, display.counter("recommending", total, unit="users") as counter:
        result = write(
            model,
            out,
            user_ids=dataset.users,
            item_ids=dataset.items,
            users=wanted,
            exclude=seen,
            options=options,
            progress=lambda done, _: counter.advance(done - counter.done, rows=done - counter.done),
        )
    values = {"path": str(out), "users": result.users, "rows": result.rows, "short_users": result.short_users}
    if json:
        print_json(values | {"seconds": result.seconds})
        return
    rate = f"{count(result.users / result.seconds)} users/s" if result.seconds > 0 else ""
    success(f"{out}: {result.rows:,} rows for {result.users:,} users in {duration(result.seconds)}, {rate}")
    if result.short_users:
        success(f"{result.short_users:,} users have fewer than {k} items left and get fewer rows")


def show_preview(found: RecommendPreview, *, json: bool) -> None:
    """Print what a call would do, by a model."""
    plan = found.plan
    if json:
        values: dict[str, Any] = {name: getattr(found, name) for name in ("users", "chunk", "chunks")}
        values |= {"backend": plan.backend, "device": plan.device, "algorithm": plan.algorithm}
        predicted = {"seconds": found.seconds, "bytes_moved": found.bytes_moved, "memory_bytes": found.memory_bytes}
        print_json(values | {"predicted": predicted})
        return
    print_text(
        f"{found.users:,} users, {found.chunk:,} at a time: {plan.backend} on {plan.device}; "
        f"{duration(found.seconds)} predicted, {found.bytes_moved / 1e9:.3g} GB moved, "
        f"{found.memory_bytes / 1e6:.3g} MB held beyond the tables (modelled; writing not counted)"
    )
    print_text(str(plan))


def all_seen(dataset: Dataset) -> Interactions:
    """Return everything each user has had, in any part of the data."""
    return dataset.train.union(dataset.valid).union(dataset.test)


def read_users(file: Path, dataset: Dataset) -> NDArray[Any]:
    """Return the original ids in a text file, one per line, blank lines skipped; integers where the data's ids are."""
    try:
        # Some editors begin a file with a byte order mark, which is no part of the first id.
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the users to serve from {file}: {error}") from error
    ids = [line for line in lines if line]
    if dataset.users.originals.dtype.kind not in "iu":
        return np.array(ids, dtype=str)
    for number, line in enumerate(lines, start=1):
        if line and not (re.fullmatch(r"-?[0-9]{1,19}", line) and -(2**63) <= int(line) < 2**63):
            raise DataError(f"{file}, line {number}: {line!r} is no 64-bit integer, but the data's user ids are")
    return np.array([int(i) for i in ids], dtype=np.int64)
