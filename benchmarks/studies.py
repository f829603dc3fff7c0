"""The results section of the README, from finished studies.

    python benchmarks/studies.py --collect runs/citeulike runs/ml1m   # keep their figures
    python benchmarks/studies.py --serving                            # measure how long their models take to serve
    python benchmarks/studies.py                                      # print the tables, draw studies/*.svg

A study is what ``fastkd distill --preset NAME --folder runs/NAME`` leaves behind.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkd.core.files import atomic_path, write_text
from fastkd.evaluation import holm

KEPT = Path(__file__).parent / "studies"
SERVING = KEPT.parent / "results" / "serving.json"
METRICS = ("recall@10", "ndcg@10")
LABELS = {
    "teacher": "teacher", "none": "plain student", "kd_ce": "KD-CE", "rd": "RD", "cd": "CD", "rrd": "RRD",
    "ir_rrd": "IR-RRD", "dcd": "DCD", "bd": "BD", "unkd": "UnKD", "hetcomp": "HetComp", "rce_kd": "RCE-KD", "de": "DE",
    "de+rrd": "DE + RRD", "hint": "hint", "phr": "PHR", "ftd": "FTD", "htd": "HTD", "pckd": "PCKD", "freqd": "FreqD",
    "prm_kd": "PRM-KD",
}  # fmt: skip
TEACHER, PLAIN, DISTILLED = "#3f3f46", "#a1a1aa", "#0f766e"
SERVED = 20
"""Length of the lists served."""

Study = Mapping[str, Any]


def collect(folder: Path) -> Path:
    """Keep what the table needs of a study folder; returns the file written."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    data = {key: results["data"][key] for key in ("users", "items")}
    teacher = {"mean": results["teacher"]["metrics"], "std": {}, "seeds": 1, **_cost([results["teacher"]])}
    students = {
        name: {
            "mean": student["mean"],
            "std": student["std"],
            "seeds": len(student["seeds"]),
            "runs": [_run(seed, run) for seed, run in student["seeds"].items()],
            "definition": _definition(next(iter(student["seeds"].values()))),
            **({"tuned": student["tuned"]} if student.get("tuned") else {}),
            "recovered": student.get("recovered"),
            "p_value": {k: v["p_value"] for k, v in (student.get("against_plain") or {}).items()},
            **_cost(list(student["seeds"].values())),
        }
        for name, student in results["students"].items()
    }
    kept = {key: results[key] for key in ("study", "description", "published", "versions", "machine")} | {"data": data}
    target = KEPT / f"{results['study']}.json"
    KEPT.mkdir(exist_ok=True)
    write_text(target, json.dumps(kept | {"models": {"teacher": teacher, **students}}, indent=1) + "\n")
    return target


def _run(seed: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one run scored, on the validation split too, and where it stopped."""
    return {"seed": int(seed), "test": run["metrics"], "valid": run.get("valid"), "best_epoch": run["best_epoch"]}


def _definition(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options and the training that all seeds share."""
    definition = run["definition"]
    return {"options": definition.get("options"), "training": definition["training"]}


def _cost(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "parameters": runs[0]["parameters"],
        "dim": runs[0]["dim"],
        "seconds": [round(run["seconds"], 1) for run in runs],
        "epochs": [run["epochs_run"] for run in runs],
    }


def markdown(study: Study, milliseconds: Mapping[str, float]) -> str:
    """Return the study as a Markdown table with published figures beside ours."""
    published = study["published"] or {"figures": {}}
    lines = [
        f"**{study['description']}**",
        "",
        "| model | parameters | ms a list | Recall@10 | published | NDCG@10 | published | gap recovered | p (Holm) |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    p_values = {n: m["p_value"]["ndcg@10"] for n, m in study["models"].items() if m.get("p_value")}
    corrected = holm(p_values)
    for name, model in study["models"].items():
        theirs = published["figures"].get(name, {})
        served = milliseconds[_size(study, model)]
        cells = [LABELS[name], f"{model['parameters']:,}", f"{served:.2f}"]
        for metric in METRICS:
            spread = f" ± {model['std'][metric]:.4f}" if model["seeds"] > 1 else ""
            cells += [f"{model['mean'][metric]:.4f}{spread}", f"{theirs[metric]:.4f}" if metric in theirs else "-"]
        share = (model.get("recovered") or {}).get("ndcg@10")
        p_value = corrected.get(name)
        cells.append("-" if share is None else f"{round(100 * share)} %")
        cells.append("-" if p_value is None else _rounded(p_value))
        lines.append("| " + " | ".join(cells) + " |")
    note = f"{_counted(study)}, mean ± standard deviation; the teacher is trained once. "
    return "\n".join([*lines, "", note + published.get("protocol", "Nothing is published for this split.")])


def _size(study: Study, model: Mapping[str, Any]) -> str:
    return f"{study['data']['items']}x{model['dim']}"


def _rounded(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _counted(study: Study) -> str:
    """Return how many seeds most students have, and who has others: ``3 seeds (HetComp 2)``."""
    counts = {LABELS[name]: int(model["seeds"]) for name, model in study["models"].items() if name != "teacher"}
    most = statistics.mode(counts.values())
    others = ", ".join(f"{label} {count}" for label, count in counts.items() if count != most)
    return f"{most} seeds ({others})" if others else f"{most} seeds"


def serving(studies: Sequence[Study]) -> dict[str, float]:
    """Return the milliseconds of one user's list at each study's size, by ``fastkd bench rank_topk``."""
    sizes = sorted({(s["data"]["items"], m["dim"]) for s in studies for m in s["models"].values()})
    shapes = [f"--shape=B=1,N={items},D={dim},K={SERVED}" for items, dim in sizes]
    command = [str(Path(sys.executable).with_name("fastkd")), "bench", "rank_topk", "--json", "--no-save", *shapes]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    own = (row for row in rows if row["contender"] == "fastkd")
    return {f"{row['sizes']['N']}x{row['sizes']['D']}": row["p50_ms"] for row in own}


def _axes(count: int, wide: float, high: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "fastkd", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=(wide * count, high), squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None})


def draw_gaps(studies: Sequence[Study], path: Path) -> None:
    """Draw the share of the teacher's gap each method recovers, a panel per study."""
    tallest = max(len(study["models"]) for study in studies)
    figure, axes = _axes(len(studies), 2.6, 0.8 + 0.2 * tallest)
    for axis, study in zip(axes, studies, strict=True):
        shares = {n: (m.get("recovered") or {}).get("ndcg@10") for n, m in study["models"].items()}
        found = sorted((100 * share, LABELS[name]) for name, share in shares.items() if share is not None)
        axis.margins(x=0.25)
        bars = axis.barh([label for _, label in found], [share for share, _ in found], color=DISTILLED, height=0.6)
        for bar, (share, _) in zip(bars, found, strict=True):
            # A figure beside the bar, or inside one that leaves it no room before the line at 100.
            inside = share > 70
            place = {"ha": "right", "color": "white"} if inside else {"ha": "left"}
            across = max(share, 0.0) + (-2 if inside else 2)
            axis.text(across, bar.get_y() + bar.get_height() / 2, f"{round(share)} %", va="center_baseline", **place)
        axis.axvline(100, color=TEACHER, linewidth=1, linestyle="--")
        axis.axvline(0, color=PLAIN, linewidth=1)
        axis.set_title(study["study"], fontsize=9)
        axis.set_xlabel("gap recovered, NDCG@10")
    _save(figure, path)


def draw_costs(studies: Sequence[Study], path: Path, milliseconds: Mapping[str, float], by: str) -> None:
    """Draw NDCG@10 against ``by``: ``parameters``, or ``latency`` of one user's list; a panel per study."""
    figure, axes = _axes(len(studies), 2.6, 2.6)
    for axis, study in zip(axes, studies, strict=True):
        models = study["models"]
        best = max(set(models) - {"teacher"}, key=lambda name: models[name]["mean"]["ndcg@10"])
        served = (milliseconds[_size(study, model)] for model in models.values())
        costs = [model["parameters"] / 1e6 for model in models.values()] if by == "parameters" else list(served)
        for (name, model), cost in zip(models.items(), costs, strict=True):
            at = cost, model["mean"]["ndcg@10"]
            axis.plot(*at, "o", color={"teacher": TEACHER, "none": PLAIN}.get(name, DISTILLED), markersize=4)
            if name in ("teacher", "none", best):
                left = name == "teacher"  # away from the best student, who may be as good
                away = 8 if at[1] >= models[best]["mean"]["ndcg@10"] else -8
                axis.annotate(LABELS[name], at, xytext=(-6, away) if left else (6, 0), textcoords="offset points",
                              va="center", ha="right" if left else "left")  # fmt: skip
        axis.set_xlim(0, 1.4 * max(costs))
        axis.margins(y=0.1)
        axis.set_title(study["study"], fontsize=9)
        axis.set_xlabel("millions of parameters" if by == "parameters" else f"ms for a user's {SERVED} items")
    axes[0].set_ylabel("NDCG@10")
    _save(figure, path)


def main() -> None:
    """Collect, or print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--serving", action="store_true", help="measure the latencies of the kept studies' models")
    arguments = parser.parse_args()
    if arguments.collect:
        for folder in arguments.collect:
            print(collect(folder))
        return
    studies = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("*.json"))]
    if arguments.serving:
        write_text(SERVING, json.dumps(serving(studies), indent=1) + "\n")
        return
    milliseconds = json.loads(SERVING.read_text(encoding="utf-8"))
    missing = {_size(study, m) for study in studies for m in study["models"].values()} - set(milliseconds)
    if missing:
        parser.error(f"{SERVING.name} lacks the sizes {', '.join(sorted(missing))}: run with --serving first")
    print("\n\n".join(markdown(study, milliseconds) for study in studies))
    draw_gaps(studies, KEPT / "gap.svg")
    draw_costs(studies, KEPT / "parameters.svg", milliseconds, "parameters")
    draw_costs(studies, KEPT / "latency.svg", milliseconds, "latency")


if __name__ == "__main__":
    main()
