"""The Speed section of the root README, made of the committed results and of nothing else.

    python benchmarks/speed.py            print the section
    python benchmarks/speed.py --write    put it between the markers in README.md
    python benchmarks/speed.py --check    fail if README.md says anything else

A line of the table names a committed file and what to read in it; a figure that no file holds cannot be shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkd.bench.record import latest, read
from fastkd.core.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- made by benchmarks/speed.py: begin -->", "<!-- made by benchmarks/speed.py: end -->"

Line = tuple[str, str, str]


def load(name: str) -> Any:
    """Return a committed result."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def time(ms: float) -> str:
    """Return milliseconds with three digits, as seconds from one second on, as minutes from ten."""
    if ms >= 6e5:
        return f"{ms / 6e4:.3g} min"
    return f"{ms / 1e3:.3g} s" if ms >= 1e3 else f"{ms:.3g} ms"


def span(values: Iterable[float]) -> str:
    """Return the range of milliseconds that cases came to."""
    found = sorted(values)
    low, high = time(found[0]), time(found[-1])
    return low if low == high else f"{low.removesuffix(' ms')} to {high}"


def rank_topk() -> Line:
    """Read the first shape: nothing seen, normal tables."""
    result = load("rank_topk.json")["results"][0]
    ms = {row["name"].split(",")[0]: row["ms"] for row in result["rows"]}
    s = result["shape"]
    what = f"exact top {s['K']} of {s['N']:,} items for {s['B']} users, {s['D']} wide"
    beside = ", ".join(f"{time(ms[name])} {name}" for name in ("torch", "faiss", "implicit"))
    return what, time(ms["fastkd"]), f"{beside}; torch's bare product {time(ms['sgemm'])}"


def rank_topk_equal() -> Line:
    """Read the shape that we lose: every score the same."""
    result = next(r for r in load("rank_topk.json")["results"] if r["shape"]["table"] == "equal")
    ms = {row["name"].split(",")[0]: row["ms"] for row in result["rows"]}
    s = result["shape"]
    what = f"the same of {s['N']:,} items that all tie (the worst case)"
    return what, time(ms["fastkd"]), ", ".join(f"{time(ms[n])} {n}" for n in ("torch", "faiss", "implicit"))


def rank_of() -> Line:
    """Read 100 items a user, all kinds of tables and items."""
    cases = [c["ms per user"] for run in load("rank_of.json") for c in run["cases"] if c["C"] == 100]
    ours, theirs = (span(c[name] for c in cases) for name in ("fastkd", "argsort of argsort"))
    return "exact rank of 100 items among 1,000,000, per user", ours, f"{theirs} argsort of argsort"


def discrepancy() -> Line:
    """Read both directions and both kinds of tables at a million items."""
    wanted = ("teacher_to_student", "student_to_teacher")
    cases = [c for run in load("sampling_ops.json") for c in run["cases"] if c.get("draws") in wanted]
    ms = [c["ms per user"] for c in cases if c["N"] == 1_000_000]
    ours, theirs = (span(m[name] for m in ms) for name in ("fastkd", "dense"))
    return "10 draws by rank discrepancy among 1,000,000 items, per user", ours, f"{theirs} dense form"


def listwise() -> Line:
    """Read CiteULike's shape on two threads."""
    row = load("listwise-2.json")["rows"][0]
    s, ms = row["shape"], row["ms"]
    listed = s["K"] + s["L"]
    what = f"RRD loss from embeddings, forward + backward, {s['B']} x {listed} items of {s['N']:,}, {s['D']} wide"
    return what, time(ms["fastkd"]), f"{time(ms['torch'])} torch, {time(ms['torch.compile'])} torch.compile"


def catalogue() -> Line:
    """Read the softmax over a catalogue on two threads."""
    found = load("catalogue-2.json")
    ms = found["ms"]
    torch = min(ms["torch, all scores"], ms["torch, 64 users at a time"])
    what = f"softmax over {found['N']:,} items, {found['B']} users, {found['D']} wide, forward + backward"
    beside = f"{time(torch)} torch, {time(ms['torch.compile, all scores'])} torch.compile"
    return (
        what,
        time(ms["fastkd catalogue_softmax"]),
        f"{beside}; torch's four products {time(ms['the four products alone'])}",
    )


def step() -> Line:
    """Read a step at ten million items."""
    rows = {r["way"]: r["ms"] for r in load("step_in_n.json")["rows"] if (r["B"], r["items"]) == (256, 10_000_000)}
    beside = f"{time(rows['torch sparse'])} torch SparseAdam, {time(rows['fbgemm Adagrad'])} FBGEMM"
    return "a training step at 10,000,000 items, 256 users x 82 items", time(rows["fastkd row-sparse"]), beside


def samplers() -> Line:
    """Read uniform negatives on one core."""
    rate = load("samplers.json")["draws"]
    beside = f"{rate['recbole: uniform, excluded']:.2g} M/s RecBole, {rate['numpy: uniform, excluded']:.2g} M/s numpy"
    return "uniform negatives outside the history, one core", f"{rate['uniform, excluded']:.0f} M/s", beside


LINES: tuple[Callable[[], Line], ...] = (
    rank_topk, rank_topk_equal, rank_of, discrepancy, listwise, catalogue, step, samplers,
)  # fmt: skip

Row = Mapping[str, Any]
JOBS = {
    "rrd_epoch": "an epoch of RRD, {U:,} users x {N:,} items, {D} wide",
    "evaluation": "recall and NDCG@{K} over the catalogue, {U:,} users x {N:,} items, {D} wide",
    "teacher_lists": "a teacher's {K} best, {U:,} users x {N:,} items, {D} wide",
    "first_step": "a fresh process: imports, a ranking, a loss and its gradient{cold}",
}


def jobs(rows: Sequence[Row]) -> list[Line]:
    """Return the whole jobs that `fastkd bench` has recorded on a CPU."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["case"] in JOBS and "p50_ms" in row and row["device_type"] == "cpu":
            found.setdefault((row["case"], row["point"]), []).append(row)
    lines = []
    for (case, _), group in sorted(found.items(), key=lambda entry: list(JOBS).index(entry[0][0])):
        ours = next((row for row in group if row["contender"] == "fastkd"), None)
        if ours is None:
            continue
        sizes = {**ours["sizes"], "cold": ", nothing compiled before" if ours["sizes"].get("cold") else ""}
        beside = ", ".join(f"{time(row['p50_ms'])} {_who(row)}" for row in group if row["contender"] != "fastkd")
        lines.append((JOBS[case].format(**sizes), time(ours["p50_ms"]), beside))
    return lines


def _who(row: Row) -> str:
    name = "published way" if row["contender"] == "published" else row["contender"]
    name += f" ({row['variant']})" if row.get("variant") else ""
    return name + ("*" if "scaled" in row.get("note", "") else "")


def on_gpu(rows: Sequence[Row]) -> list[str]:
    """Return the paragraph and the table of figures taken on a GPU; or that there are none."""
    timed = [row for row in rows if row["device_type"] == "cuda" and "p50_ms" in row]
    if not timed:
        return [
            "**No figure was measured on a GPU yet.** The Triton kernels run in the interpreter in every test run",
            "and are compiled for sm_80, sm_90 and sm_100 without a spill; `benchmarks/gpu_check.sh` measures there.",
        ]
    head = ["| case | shape | fastkd | of the limit | beside it |", "| --- | --- | --: | --: | --: |"]
    lines = [f"On {timed[0]['device']}:", "", *head]
    for row in timed:
        if row["contender"] != "fastkd":
            continue
        key = ("device", "case", "point", "pass")
        others = [r for r in timed if r["contender"] != "fastkd" and all(r[k] == row[k] for k in key)]
        beside = ", ".join(f"{time(r['p50_ms'])} {_who(r)}" for r in others) or "-"
        share = f"{100 * row['share']:.0f} %" if row.get("share") else "-"
        lines.append(f"| {row['case']}, {row['pass']} | {row['point']} | {time(row['p50_ms'])} | {share} | {beside} |")
    return lines


def section() -> str:
    """Return the section with its markers."""
    rows = latest(read(RESULTS))
    lines = [line() for line in LINES] + jobs(rows)
    cpu = load("rank_topk.json")
    text = [
        BEGIN,
        f"{cpu['cpu']}, {cpu['cores']} cores, torch {cpu['versions']['torch']}, float32, medians;",
        "peers took turns on the same inputs. Shapes, commands and where we lose: [benchmarks](benchmarks/README.md).",
        "`fastkd bench` measures where you are.",
        "",
        *on_gpu(rows),
        "",
        "| what | fastkd | beside it |",
        "| --- | --: | --: |",
        *(f"| {what} | {ours} | {beside} |" for what, ours, beside in lines),
    ]
    if any("*" in beside for _, _, beside in lines):
        text += ["", "\\* measured on a part of the job and scaled; the part is in `benchmarks/results/bench.jsonl`."]
    return "\n".join([*text, END])


def replaced(page: str, made: str) -> str:
    """Return a page with the section between its markers; raises ``ValueError`` where there are none."""
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"README.md must hold {BEGIN!r} and {END!r} once each")
    return page[: page.index(BEGIN)] + made + page[page.index(END) + len(END) :]


def main() -> int:
    """Print, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    readme, made = ROOT / "README.md", section()
    page = readme.read_text(encoding="utf-8")
    if given.write:
        write_text(readme, replaced(page, made))
    elif given.check:
        if replaced(page, made) != page:
            print(
                "README.md's Speed section is not what benchmarks/speed.py makes; run it with --write", file=sys.stderr
            )
            return 1
    else:
        print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
