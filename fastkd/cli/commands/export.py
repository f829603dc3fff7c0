"""``fastkd export``: a trained student as files that other systems serve."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from fastkd.cli.console import note, print_json, success
from fastkd.cli.options import Json, Run

if TYPE_CHECKING:
    from fastkd.cli.folders import RunInfo
    from fastkd.data import Dataset


def export(
    run: Run,
    *,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder to write; an older export there is replaced.", show_default=False),
    ],
    parts: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="A,B",
            help="Of weights, vectors, tower (user vectors, torch.export), faiss (index of items), scorer (models that "
            "score pairs).",
            show_default="all the model has but faiss",
        ),
    ] = None,
    index: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="FACTORY",
            help="faiss's factory string, such as Flat (exact) or IVF64,Flat; asks for the part faiss.",
            show_default="Flat, if the part is asked for",
        ),
    ] = None,
    without_seen: Annotated[bool, typer.Option("--without-seen", help="Leave out what each user has had.")] = False,
    json: Json = False,
) -> None:
    """Write a trained student for other systems: vectors, id maps, configuration, user tower, faiss index.

    Reading it back ranks as the student does; see fastkd.serving. An export is also a teacher for `fastkd distill`.

    Example:  fastkd export runs/demo/students/rrd/seed0 --out exported --parts vectors,tower,faiss
    """
    from fastkd.cli.commands.recommend import all_seen
    from fastkd.cli.config import split_list
    from fastkd.cli.folders import read_run_info, study_of
    from fastkd.cli.runs import load_run
    from fastkd.data import open_store
    from fastkd.serving import export_student

    dataset = open_store(study_of(run) / "data")
    export_student(
        load_run(run, dataset),
        out,
        user_ids=dataset.users,
        item_ids=dataset.items,
        seen=None if without_seen else all_seen(dataset),
        parts=split_list(parts),
        index=index,
        metadata=_about(run, read_run_info(run), dataset),
    )
    manifest = json_module.loads((out / "manifest.json").read_text(encoding="utf-8"))
    if json:
        print_json({"path": str(out), **{k: manifest[k] for k in ("score", "num_users", "num_items", "files")}})
        return
    for name, entry in sorted(manifest["files"].items()):
        takes = ", ".join(f"{i['name']} {i['shape']}" for i in entry.get("inputs", ()))
        note(f"{name:12}  {entry['file']}  {entry['bytes']:,} bytes{f'  ({takes})' if takes else ''}")
    success(f"{out}: {manifest['num_users']:,} users, {manifest['num_items']:,} items, score: {manifest['score']}")


def _about(run: Path, info: RunInfo, dataset: Dataset) -> dict[str, Any]:
    """Return what an export says of the run it comes from: configuration, data and, once tested, metrics."""
    from fastkd.cli.folders import plain
    from fastkd.cli.records import is_finished, load_record
    from fastkd.cli.teachers import DATA_HASH
    from fastkd.models import model_mapping

    about = {"student": info.student, "seed": info.seed, "model": model_mapping(info.model), "config": info.definition}
    about[DATA_HASH] = dataset.content_hash()
    if is_finished(run):
        about["metrics"] = load_record(run).metrics
    return dict(plain(about))
