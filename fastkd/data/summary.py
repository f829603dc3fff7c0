"""What a data set looks like: counts, density, degrees, items never seen in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastkd.data.dataset import Dataset
from fastkd.data.reading import Reading

QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1.0}


@dataclass(frozen=True)
class DatasetSummary:
    """Counts of a data set; ``rows`` and ``users_with`` are per part.

    ``density`` = all rows / (users x items). Degrees count training rows. ``cold_items``: items without a
    training row; ``cold_test_rows``/``cold_valid_rows``: rows of the part whose item is one of them. ``reading``: what
    was read and left out on the way, or None where the data was not read from a source.
    """

    name: str
    users: int
    items: int
    rows: Mapping[str, int]
    users_with: Mapping[str, int]
    density: float
    user_degrees: Mapping[str, float]
    item_degrees: Mapping[str, float]
    cold_items: int
    cold_valid_rows: int
    cold_test_rows: int
    content_hash: str
    reading: Reading | None = None

    def lines(self) -> list[tuple[str, str]]:
        """Return (name, value) pairs in reading order, for a table."""
        rows = [("name", self.name), *(self.reading.lines() if self.reading else ())]
        rows += [("users", f"{self.users:,}"), ("items", f"{self.items:,}")]
        rows += [(f"{part} rows", f"{n:,} ({self.users_with[part]:,} users)") for part, n in self.rows.items()]
        rows += [("density", f"{self.density:.3g}")]
        for title, degrees in (
            ("training rows per user", self.user_degrees),
            ("training rows per item", self.item_degrees),
        ):
            rows.append((title, ", ".join(f"{name} {value:g}" for name, value in degrees.items())))
        rows.append(("items without training row", f"{self.cold_items:,}"))
        rows.append(("valid rows of such items", f"{self.cold_valid_rows:,}"))
        rows.append(("test rows of such items", f"{self.cold_test_rows:,}"))
        rows.append(("content hash", self.content_hash))
        return rows


def dataset_summary(dataset: Dataset) -> DatasetSummary:
    """Summarise ``dataset``; one pass over each part."""
    parts = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
    item_degrees = dataset.train.item_counts()
    cold = item_degrees == 0
    cells = dataset.num_users * dataset.num_items
    return DatasetSummary(
        name=dataset.name,
        users=dataset.num_users,
        items=dataset.num_items,
        rows={name: part.nnz for name, part in parts.items()},
        users_with={name: int(np.count_nonzero(part.degrees())) for name, part in parts.items()},
        density=sum(part.nnz for part in parts.values()) / cells if cells else 0.0,
        user_degrees=_quantiles(dataset.train.degrees()),
        item_degrees=_quantiles(item_degrees),
        cold_items=int(cold.sum()),
        cold_valid_rows=int(cold[dataset.valid.indices].sum()),
        cold_test_rows=int(cold[dataset.test.indices].sum()),
        content_hash=dataset.content_hash(),
        reading=dataset.reading,
    )


def _quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    if not len(values):
        return dict.fromkeys(QUANTILES, 0.0)
    return {name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}
