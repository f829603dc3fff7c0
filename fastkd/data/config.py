"""``DataConfig``: where the data is and what becomes of it, as one value that is checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastkd.core.config import conform
from fastkd.core.errors import ConfigError
from fastkd.data.filters import Duplicates
from fastkd.data.log import Format, ReadOptions, check_delimiter
from fastkd.data.planted import SyntheticConfig
from fastkd.data.splits import Ratios, check_ratios

Split = Literal["random", "leave_one_out", "temporal", "temporal_per_user", "column"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data is and what becomes of it.

    Source: ``path`` (file, folder of train/valid/test files, or store) or ``synthetic``. ``format``, ``delimiter``,
    ``columns`` and the ``*_column`` names are as in :class:`ReadOptions`; ``time_column=""`` reads no times. Filters:
    ``min_rating``, ``duplicates``, ``user_core``, ``item_core``. ``keep_ids``: ids are already 0-based integers; the
    counts are the largest id plus one, or ``num_users``/``num_items``. ``split="column"`` reads ``split_column``; when
    no row is labelled as validation, ``valid_from_train`` of each user's training rows becomes it. ``unlabelled``: what
    to do with rows without label. ``users_without_train``: users that a split leaves without training rows. ``store``:
    cache folder, made on first use. Either path may be text.
    """

    path: Path | None = None
    synthetic: SyntheticConfig | None = None
    name: str | None = None
    format: Format = "auto"
    delimiter: str | None = None
    columns: tuple[str, ...] | None = None
    user_column: str | None = None
    item_column: str | None = None
    rating_column: str | None = None
    time_column: str | None = None
    split_column: str = "split"
    min_rating: float | None = None
    duplicates: Duplicates = "first"
    user_core: int = 1
    item_core: int = 1
    keep_ids: bool = False
    num_users: int | None = None
    num_items: int | None = None
    split: Split = "random"
    ratios: Ratios = (0.8, 0.1, 0.1)
    valid_from_train: float = 0.1
    unlabelled: Literal["refuse", "drop"] = "refuse"
    users_without_train: Literal["refuse", "drop"] = "refuse"
    seed: int = 0
    store: Path | None = None

    def __post_init__(self) -> None:
        conform(self)
        check_ratios(self.ratios)
        check_delimiter(self.delimiter)
        if not 0 <= self.valid_from_train < 1:
            raise ConfigError(f"valid_from_train must be in [0, 1), got {self.valid_from_train}")
        if self.path is not None and self.synthetic is not None:
            raise ConfigError(f"give path or synthetic, not both (path is {self.path})")
        if self.keep_ids and (self.user_core > 1 or self.item_core > 1):
            raise ConfigError("keep_ids=True keeps every id, a core removes some: set user_core and item_core to 1")
        if not self.keep_ids and (self.num_users is not None or self.num_items is not None):
            raise ConfigError("num_users and num_items need keep_ids=True; otherwise ids are counted")
        if self.keep_ids and self.users_without_train == "drop":
            raise ConfigError("users_without_train='drop' renumbers users; it needs keep_ids=False")

    @property
    def needs_time(self) -> bool:
        """Return whether times, where there are some, decide which rows stay or where they go."""
        return self.split in ("leave_one_out", "temporal", "temporal_per_user") or self.duplicates == "latest"

    def read_options(self) -> ReadOptions:
        """Return how to read the source."""
        return ReadOptions(
            format=self.format,
            user=self.user_column,
            item=self.item_column,
            rating=self.rating_column if self.min_rating is not None or self.rating_column else "",
            time=self.time_column,
            lenient_time=not self.needs_time,
            split=self.split_column if self.split == "column" else None,
            delimiter=self.delimiter,
            columns=self.columns,
        )
