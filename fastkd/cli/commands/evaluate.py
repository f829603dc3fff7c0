"""``fastkd evaluate``: rank the whole catalogue with a finished run, alone or against another."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.text import Text

from fastkd.cli.console import note, print_json, print_table, table
from fastkd.cli.options import Json, Run
from fastkd.core.config import from_mapping, to_mapping, with_overrides
from fastkd.core.errors import DataError

if TYPE_CHECKING:
    from fastkd.data import Dataset
    from fastkd.evaluation import EvalConfig, Evaluation, PairedTest


class Split(StrEnum):
    """Which part is ranked."""

    valid = "valid"
    test = "test"


def evaluate(
    run: Run,
    *,
    split: Annotated[Split, typer.Option(help="The part to rank.")] = Split.test,
    against: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="RUN", help="Another run of the same data; differences get a paired test.", show_default=False
        ),
    ] = None,
    overrides: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override evaluation options, such as ks=[5,50] or mask=train+valid."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Rank the whole catalogue with a trained run and print the metrics.

    Example:  fastkd evaluate runs/demo/students/rrd/seed0 --against runs/demo/students/none/seed0
    """
    from fastkd.cli.config import stored_study
    from fastkd.cli.folders import study_of
    from fastkd.data import open_store
    from fastkd.evaluation import EvalConfig, paired_test

    study = study_of(run)
    values = with_overrides(to_mapping(stored_study(study).evaluation), overrides or ())
    config = from_mapping(EvalConfig, values, path="evaluation")
    dataset = open_store(study / "data")
    mine = _evaluated(run, dataset, dataset, split, config)
    tests = {}
    if against is not None:
        theirs = open_store(study_of(against) / "data")
        _check_same_data(theirs, dataset, against)
        other = _evaluated(against, theirs, dataset, split, config)
        tests = {metric: paired_test(mine, other, metric) for metric in mine.per_user}
    if json:
        print_json(_json(run, against, mine, tests))
        return
    _print(run, against, mine, tests)


def _evaluated(run: Path, trained_on: Dataset, dataset: Dataset, split: Split, config: EvalConfig) -> Evaluation:
    """Rank with a run, made again on its own data: the hash leaves the order of time out, and SASRec needs it."""
    from fastkd.cli.runs import load_run
    from fastkd.evaluation import evaluate as rank

    return rank(load_run(run, trained_on), dataset, split.value, config=config)


def _check_same_data(theirs: Dataset, mine: Dataset, run: Path) -> None:
    there, here = theirs.content_hash(), mine.content_hash()
    if there != here:
        raise DataError(f"{run} was trained on other data or another split: {there} there, {here} here")


def _json(run: Path, against: Path | None, mine: Evaluation, tests: dict[str, PairedTest]) -> dict[str, Any]:
    from fastkd.cli.records import finite

    values = {
        "run": str(run),
        "split": mine.split,
        "metrics": dict(mine.metrics),
        "users_evaluated": mine.num_users_evaluated,
        "users_excluded": mine.excluded_users,
        "against": str(against) if against else None,
        "tests": {metric: dataclasses.asdict(test) for metric, test in tests.items()},
    }
    return dict(finite(values))


def _print(run: Path, against: Path | None, mine: Evaluation, tests: dict[str, PairedTest]) -> None:
    columns = ["metric", "value"] + (["other", "difference", "95 % interval", "p"] if tests else [])
    rows: list[list[Any]] = []
    for metric, value in mine.metrics.items():
        row: list[Any] = [metric, f"{value:.4f}"]
        if metric in tests:
            test = tests[metric]
            interval = f"[{test.low:+.4f}, {test.high:+.4f}]"
            sure = test.p_value < 0.05
            difference = Text(
                f"{test.mean_difference:+.4f}", style=("green" if test.mean_difference > 0 else "red") if sure else ""
            )
            row += [f"{test.mean_b:.4f}", difference, interval, f"{test.p_value:.2g}"]
        rows.append(row)
    print_table(table(f"{run}: {mine.split} split", columns, rows, right=columns[1:]))
    note(f"{mine.num_users_evaluated} users in the mean, {mine.excluded_users} left out")
    if against:
        note(f"other: {against}; p of a paired randomisation test over users, two-sided")
