"""``fastkd bench``: throughput beside peers and this machine's limits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from fastkd.cli import bench_tables as show
from fastkd.cli.config import split_list
from fastkd.cli.console import duration, note, print_json, print_table, success, table_width
from fastkd.cli.options import Json

Cases = Annotated[Optional[list[str]], typer.Argument(metavar="[OP]...", help="Cases; all if none is named.")]  # noqa: UP045
Shape = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(metavar="B=256,N=1e6", help="Sizes that replace those of the case's first point; repeat for more."),
]
Against = Annotated[
    str, typer.Option(metavar="PEERS", help="Peers: torch, compile, cce, liger, faiss, cuvs, implicit, recbole, numpy.")
]
Base = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="GIT_REF", help="Time this commit's fastkd too, in turns with the present one."),
]


def bench(
    cases: Cases = None,
    *,
    shape: Shape = None,
    against: Against = "torch",
    base: Base = None,
    passes: Annotated[str, typer.Option("--pass", help="forward, backward, both; comma-separated.")] = "both",
    device: Annotated[Optional[str], typer.Option(help="cpu or cuda.", show_default="cuda if there is one")] = None,  # noqa: UP045
    threads: Annotated[Optional[int], typer.Option(min=1, help="CPU threads.", show_default="all")] = None,  # noqa: UP045
    seconds: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0.01, help="Time spent on each case, shape and pass.", show_default="5"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small shapes, under a minute.")] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Scaling: one size at a time changed.")] = False,
    slow: Annotated[bool, typer.Option("--slow", help="Long cases and shapes too.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List cases and shapes and stop.")] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results are appended and the page is made.")] = Path(
        "fastkd-bench"
    ),
    no_save: Annotated[bool, typer.Option("--no-save", help="Write nothing.")] = False,
    json: Json = False,
) -> None:
    """Time ops beside peers and this machine's limits, after their tests have passed here.

    Results are appended to DIR/bench.jsonl and DIR/bench.csv, with commit, device and versions; DIR/bench.html shows
    the newest of each.

    Example:  fastkd bench rank_topk --shape B=256,N=1e6 --against torch,faiss
    """
    from fastkd.bench.record import append
    from fastkd.cli.bench_runs import Wanted, prepare

    wanted = Wanted(
        cases=tuple(cases or ()), shapes=tuple(shape or ()), against=split_list(against) or (), base=base,
        passes=split_list(passes) or (), device=device, threads=threads, seconds=seconds, quick=quick, sweep=sweep,
        slow=slow,
    )  # fmt: skip
    began = time.perf_counter()
    run = prepare(wanted)
    if listed:
        print_json(run.listed()) if json else print_table(show.case_table(run.listed()))
        return
    rows: list[dict[str, Any]] = []
    roof = run.measure()
    note(show.limits(roof, run.device))
    for row in run.rows(roof):
        rows.append(row)
        if not no_save:
            append(out, [row])  # a run that is stopped leaves what it has
        if not json and "p50_ms" in row:
            note(show.progress(row))
    if json:
        print_json(rows)
    else:
        print_table(show.result_table(rows, table_width()))
        for line in show.left_out(rows):
            note(line)
        note(f"took {duration(time.perf_counter() - began)}, gate and limits included")
    if not no_save:
        from fastkd.bench.page import write_page

        success(f"wrote {write_page(out)}")
    if not any("p50_ms" in row for row in rows):
        raise typer.Exit(1)
