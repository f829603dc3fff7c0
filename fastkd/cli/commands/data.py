"""``fastkd data``: prepare a store, plant a catalogue, fetch a public data set, look at either."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastkd.cli.app import GuardedGroup
from fastkd.cli.config import data_config, find_data
from fastkd.cli.console import key_values, note, print_json, print_table, print_yaml, success, table
from fastkd.cli.options import DryRun, Json, Overrides, Overwrite
from fastkd.core.config import from_mapping, to_yaml, with_overrides
from fastkd.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fastkd.cli.progress import Counter, Display
    from fastkd.data import Dataset

app = typer.Typer(
    cls=GuardedGroup,
    no_args_is_help=True,
    help="Prepare, plant, fetch and look at data.\n\nExample:  fastkd data info runs/demo/data",
)

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The store to write.", show_default=False)]


@app.command()
def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Interactions, or a YAML file of data options.", show_default=False)
    ],
    *,
    out: Out,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Read, filter, number and split an interaction file, and write it as a store.

    Example:  fastkd data prepare ratings.csv --out store --set min_rating=4 --set user_core=5
    """
    from fastkd.cli.progress import Display
    from fastkd.data import load_dataset, save_store
    from fastkd.data.store import check_target

    find_data()
    config = data_config(source, overrides or ())
    if dry_run:
        print_yaml(to_yaml(config))
        return
    check_target(out, overwrite=overwrite)
    with Display() as display, display.stage(f"preparing {source}"):
        dataset = load_dataset(config)
        save_store(dataset, out, overwrite=overwrite)
    show(dataset, json=json)
    if not json:
        success(f"store: {out}   use it: --set data.path={out}")


@app.command()
def synth(
    *,
    out: Out,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Plant a synthetic catalogue whose best ranking is known, and write it as a store.

    Example:  fastkd data synth --out planted --set num_users=10000 --set num_items=5000
    """
    from fastkd.data import SyntheticConfig, save_store, synthetic_dataset
    from fastkd.data.store import check_target
    from fastkd.models import Tables, save_tables

    config = from_mapping(SyntheticConfig, with_overrides({}, overrides or ()), path="synthetic")
    if dry_run:
        print_yaml(to_yaml(config))
        return
    check_target(out, overwrite=overwrite)
    made = synthetic_dataset(config)
    save_store(made.dataset, out, overwrite=overwrite)
    oracle = out.with_name(f"{out.name}-oracle.safetensors")
    save_tables(oracle, Tables(made.oracle.users, made.oracle.items))
    show(made.dataset, json=json)
    if not json:
        success(f"store: {out}   best ranking: {oracle} (a teacher file)")


@app.command()
def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A data set; without one, all are listed.")
    ] = None,
    *,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where to put it.")] = Path("data"),
    json: Json = False,
) -> None:
    """Download a public data set from its publisher and check it; without a name, list what there is.

    Example:  fastkd data fetch ml-1m --folder data
    """
    from fastkd.cli.progress import Display
    from fastkd.data import SOURCES
    from fastkd.data import fetch as download

    if name is None:
        _list_sources(json=json)
        return
    source = SOURCES.get(name)
    note(f"{source.title}. {source.licence}")
    with Display() as display:
        fetched = download(name, folder, progress=_Downloads(display))
    if json:
        values = {"folder": str(fetched.folder), "path": str(fetched.config.path), "recorded": list(fetched.recorded)}
        print_json(values)
        return
    success(str(fetched.config.path))
    note("how to read it (save as data.yaml, then: fastkd data prepare data.yaml --out store):")
    print_yaml(to_yaml(fetched.config))


@app.command()
def info(
    store: Annotated[
        Path,
        typer.Argument(metavar="STORE", help="A store, a study folder, or an interaction file.", show_default=False),
    ],
    *,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Show what a data set holds: rows read and left out, sizes, density, degrees, items without training rows.

    Example:  fastkd data info plays.csv --set item_column=song
    """
    from fastkd.data import is_store, load_dataset, open_store

    find_data()
    folder = store / "data" if is_store(store / "data") else store
    if is_store(folder):
        if overrides:
            raise ConfigError(f"{folder} is a store, prepared already; --set {overrides[0]} is for files")
        dataset = open_store(folder)
    elif store.is_dir():
        raise DataError(f"{store} is neither a store nor a study folder")
    else:
        config = data_config(store, overrides or ())
        dataset = load_dataset(config)
        if dataset.reading is not None:
            note(f"split={config.split}; --set split=... chooses otherwise, `fastkd data prepare` keeps the result")
    show(dataset, json=json)


def show(dataset: Dataset, *, json: bool) -> None:
    """Print a data set's summary."""
    from fastkd.data import dataset_summary

    summary = dataset_summary(dataset)
    if json:
        print_json(dataclasses.asdict(summary))
    else:
        print_table(key_values("Data", dict(summary.lines())))


def _list_sources(*, json: bool) -> None:
    from fastkd.data import SOURCES

    found = [SOURCES.get(name) for name in SOURCES]
    if json:
        print_json([{"name": s.name, "title": s.title, "licence": s.licence} for s in found])
        return
    print_table(table("Public data sets", ("name", "title", "licence"), [(s.name, s.title, s.licence) for s in found]))


class _Downloads:
    """Shows each downloaded file as a bar of bytes."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._open: tuple[str, Any, Counter] | None = None

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Move the bar of ``name`` to ``done`` bytes."""
        if self._open is None or self._open[0] != name:
            self._close()
            context = self._display.counter(name, total or 0, unit="bytes")
            self._open = (name, context, context.__enter__())
        counter = self._open[2]
        counter.advance(done - counter.done, rows=done - counter.done)
        if done == total:
            self._close()

    def _close(self) -> None:
        if self._open is not None:
            self._open[1].__exit__(None, None, None)
            self._open = None
