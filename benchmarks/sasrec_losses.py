"""SASRec under three base losses: the paper's BCE, the softmax over the catalogue, and the sampled softmax.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/sasrec_losses.py --out benchmarks/results/sasrec_losses.json
    python benchmarks/sasrec_losses.py --show benchmarks/results/sasrec_losses.json   # print the table

Leave-last-out: each user's last item is for testing, the one before for validation, the rest for training. The whole
catalogue is ranked, with what came before masked. amazon-beauty is read in the order of ``pos``; of ml-1m the ratings
that have a ``seq_pos`` (at least 4, 10-core). All losses share model, seed, optimiser, batches and evaluation; the
epoch with the best validation NDCG@10 is tested. The budget is small and nothing was tuned: read the order, not the
figures. BCE runs a second time for three times as many epochs, about as long as the softmax takes. Seconds are of the
CPU, one thread. Data is looked up in ``FASTKD_DATA``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastkd.bench.where import surroundings
from fastkd.core.files import write_text
from fastkd.core.seeds import Seeds
from fastkd.data import DataConfig, Dataset, load_dataset
from fastkd.data.readers import resolve
from fastkd.evaluation import EvalConfig, evaluate
from fastkd.models import ModelConfig, build_model
from fastkd.training import Trainer, TrainingConfig

RUNS = (("bce", 1), ("softmax", 1), ("sampled", 1), ("bce", 3))
"""Base loss, and how many times the epochs of its data set."""
METRICS = ("recall@10", "ndcg@10")
DIM, EPOCHS = 50, 8


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set, its order of time, the paper's dropout for its kind, and sizes for the budget."""

    time: str
    dropout: float
    max_length: int
    batch_size: int


CASES = {
    "amazon-beauty": Case(time="pos", dropout=0.5, max_length=20, batch_size=512),
    "ml-1m": Case(time="seq_pos", dropout=0.2, max_length=50, batch_size=1024),
}


def load(name: str) -> Dataset:
    """Return the rows that have a place in time, the last two of each user apart."""
    order = CASES[name].time
    table = pq.read_table(resolve(Path(f"{name}.inter.parquet")), columns=["user", "item", order])
    known = table.filter(pc.is_valid(table[order]))
    log = pa.table({"user": known["user"], "item": known["item"], "time": known[order].cast(pa.int64())})
    return load_dataset(DataConfig(split="leave_one_out", time_column="time"), source=log)


def run(name: str, data: Dataset, loss: str, epochs: int) -> dict[str, Any]:
    """Train and test one model; return what came of it."""
    case, begin = CASES[name], time.process_time()
    options = {"max_length": case.max_length, "dropout": case.dropout, "base_loss": loss}
    config = ModelConfig(name="sasrec", dim=DIM, options=options)
    model = build_model(config, data.train, Seeds(0), sequences=data.sequences)
    training = TrainingConfig(
        epochs=epochs, batch_size=case.batch_size, reduction="mean", eval_every=2, monitor="ndcg@10", device="cpu"
    )
    evaluation = EvalConfig(ks=(10,), mask="train+valid", metrics=("recall", "ndcg"))
    result = Trainer(model, data, None, training, evaluation=evaluation).fit()
    spent = time.process_time() - begin
    found = evaluate(model, data, "test", config=evaluation).metrics
    assert result.best_epoch is not None
    return {
        "data": name,
        "loss": loss,
        "epochs": epochs,
        "best_epoch": result.best_epoch + 1,
        "cpu_seconds": round(spent, 1),
        "valid": {metric: round(result.best_metrics[metric], 5) for metric in METRICS},
        "test": {metric: round(float(found[metric]), 5) for metric in METRICS},
        "options": options | {"dim": DIM, "batch_size": case.batch_size, "lr": training.lr, "seed": training.seed},
        "users": data.num_users,
        "items": data.num_items,
        "train_rows": data.train.nnz,
    }


def runs(names: Sequence[str], epochs: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of all runs, each with where it was made."""
    where = surroundings("cpu")  # now: a checkout may move on while this runs
    for name in names:
        data = load(name)
        for loss, times in RUNS:
            yield run(name, data, loss, epochs * times) | {"where": where}


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| data | base loss | epochs (best) | CPU seconds | Recall@10 | NDCG@10 |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    for row in rows:
        cells = [row["data"], f"`{row['loss']}`", f"{row['epochs']} ({row['best_epoch']})", f"{row['cpu_seconds']:.0f}"]
        lines.append("| " + " | ".join([*cells, *(f"{row['test'][m]:.4f}" for m in METRICS)]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run and keep, or print what was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write rows here, after every run")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of a file and leave")
    parser.add_argument("--data", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    given = parser.parse_args()
    if given.show:
        print(markdown(json.loads(given.show.read_text(encoding="utf-8"))))
        return
    rows: list[dict[str, Any]] = []
    for row in runs(given.data, given.epochs):
        rows.append(row)
        print(markdown(rows[-1:]).splitlines()[-1], flush=True)
        if given.out:
            write_text(given.out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
