"""The results section of the README, from finished studies.

    python benchmarks/studies.py --collect runs/citeulike runs/ml1m   # keep their figures
    python benchmarks/studies.py                                      # print the table, write studies/gap.svg

A study is what ``fastkd distill --preset NAME --folder runs/NAME`` leaves behind.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastkd.core.files import atomic_path, write_text

KEPT = Path(__file__).parent / "studies"
METRICS = ("recall@10", "ndcg@10")
LABELS = {"teacher": "teacher", "none": "plain student", "rrd": "RRD", "de": "DE", "bd": "BD"}
COLOURS = {"none": "#a1a1aa", "rrd": "#0f766e", "de": "#b45309", "bd": "#6d28d9"}

Study = Mapping[str, Any]


def collect(folder: Path) -> Path:
    """Keep what the table needs of a study folder; returns the file written."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    teacher = {"mean": results["teacher"]["metrics"], "std": {}, "seeds": 1, **_cost([results["teacher"]])}
    students = {
        name: {
            "mean": student["mean"],
            "std": student["std"],
            "seeds": len(student["seeds"]),
            "recovered": student.get("recovered"),
            "p_value": {k: v["p_value"] for k, v in (student.get("against_plain") or {}).items()},
            **_cost(list(student["seeds"].values())),
        }
        for name, student in results["students"].items()
    }
    kept = {key: results[key] for key in ("study", "description", "published", "versions", "machine")}
    target = KEPT / f"{results['study']}.json"
    KEPT.mkdir(exist_ok=True)
    write_text(target, json.dumps(kept | {"models": {"teacher": teacher, **students}}, indent=1) + "\n")
    return target


def _cost(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "parameters": runs[0]["parameters"],
        "seconds": [round(run["seconds"], 1) for run in runs],
        "epochs": [run["epochs_run"] for run in runs],
    }


def markdown(study: Study) -> str:
    """Return the study as a Markdown table with published figures beside ours."""
    published = study["published"] or {"figures": {}}
    lines = [
        f"**{study['description']}**",
        "",
        "| model | parameters | Recall@10 | published | NDCG@10 | published | gap recovered |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, model in study["models"].items():
        theirs = published["figures"].get(name, {})
        cells = [LABELS[name], f"{model['parameters']:,}"]
        for metric in METRICS:
            spread = f" ± {model['std'][metric]:.4f}" if model["seeds"] > 1 else ""
            cells += [f"{model['mean'][metric]:.4f}{spread}", f"{theirs[metric]:.4f}" if metric in theirs else "-"]
        share = (model.get("recovered") or {}).get("ndcg@10")
        cells.append("-" if share is None else f"{100 * share:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    counts = {model["seeds"] for name, model in study["models"].items() if name != "teacher"}
    seeds = f"{counts.pop()} seeds" if len(counts) == 1 else _counted(study)
    note = f"{seeds}, mean ± standard deviation; the teacher is trained once. "
    return "\n".join([*lines, "", note + published.get("protocol", "Nothing is published for this split.")])


def _counted(study: Study) -> str:
    """Return how many seeds each student has, where they differ."""
    students = ((LABELS[name], model["seeds"]) for name, model in study["models"].items() if name != "teacher")
    return "seeds: " + ", ".join(f"{label} {count}" for label, count in students)


def draw(studies: Sequence[Study], path: Path) -> None:
    """Draw the share of the teacher's gap each method recovers, a panel per study."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "fastkd", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(studies), figsize=(2.6 * len(studies), 2.6), sharey=True, squeeze=False)
    for axis, study in zip(axes[0], studies, strict=True):
        names = [n for n, m in study["models"].items() if (m.get("recovered") or {}).get("ndcg@10") is not None]
        shares = [100 * study["models"][n]["recovered"]["ndcg@10"] for n in names]
        bars = axis.bar([LABELS[n] for n in names], shares, color=[COLOURS[n] for n in names], width=0.6)
        axis.bar_label(bars, labels=[f"{s:.0f} %" for s in shares], padding=2)
        axis.axhline(100, color="#3f3f46", linewidth=1, linestyle="--")
        axis.axhline(0, color="#a1a1aa", linewidth=1)
        axis.set_title(study["study"], fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(y=0.15)
    axes[0][0].set_ylabel("teacher's gap recovered, NDCG@10")
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None})


def main() -> None:
    """Collect, or print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", type=Path, nargs="+", metavar="FOLDER")
    arguments = parser.parse_args()
    if arguments.collect:
        for folder in arguments.collect:
            print(collect(folder))
        return
    studies = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(KEPT.glob("*.json"))]
    print("\n\n".join(markdown(study) for study in studies))
    draw(studies, KEPT / "gap.svg")


if __name__ == "__main__":
    main()
