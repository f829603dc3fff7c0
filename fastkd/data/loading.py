"""``load_dataset``: source -> threshold -> duplicates -> k-core -> split -> :class:`Dataset`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from fastkd.core.config import to_mapping
from fastkd.core.errors import ConfigError, DataError, FastKDWarning
from fastkd.core.interactions import Interactions
from fastkd.core.seeds import Seeds
from fastkd.data import splits
from fastkd.data.config import DataConfig
from fastkd.data.dataset import Dataset, IdMap
from fastkd.data.filters import deduplicate, k_core, threshold, times_of
from fastkd.data.log import IdColumn, InteractionLog, ways_to_set
from fastkd.data.parts import warn_of_discarded_parts, warn_of_shared_pairs
from fastkd.data.readers import read_interactions, resolve
from fastkd.data.reading import Reading
from fastkd.data.sequences import UserSequences, build_sequences
from fastkd.data.source import record_files
from fastkd.data.store import is_store, open_store, save_store, store_provenance
from fastkd.data.synthetic import synthetic_dataset


@dataclass(frozen=True, eq=False)
class PreparedLog:
    """Filtered, numbered and split rows in file order.

    ``users``, ``items`` int64[n] dense ids; ``parts`` int8[n] (0 train, 1 valid, 2 test); ``time`` [n] or None.
    ``reading``: what the source held and what was left out.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    parts: NDArray[np.int8]
    time: NDArray[Any] | None
    user_map: IdMap
    item_map: IdMap
    name: str = field(default="data")
    reading: Reading | None = None

    def dataset(self) -> Dataset:
        """Return the rows as a :class:`Dataset`; a user without training rows is refused by original id.

        It holds sequences where every training row has a time.
        """
        _refuse_bare(self)
        built = []
        for code in range(3):
            chosen = self.parts == code
            users, items = self.users[chosen], self.items[chosen]
            built.append(
                Interactions.from_pairs(users, items, num_users=len(self.user_map), num_items=len(self.item_map))
            )
        sequences = self.sequences("train") if self._is_timed("train") else None
        parts = (built[0], built[1], built[2])
        return Dataset(*parts, self.user_map, self.item_map, self.name, sequences, self.reading)

    def _is_timed(self, part: str) -> bool:
        """Return whether every row of a part has a time."""
        if self.time is None:
            return False
        time = self.time[self.parts == splits.PARTS.index(part)]
        return time.dtype.kind != "f" or not np.isnan(time).any()

    def sequences(self, part: Literal["train", "valid", "test"] = "train") -> UserSequences:
        """Return each user's items of one part, oldest first; file order when there is no time."""
        chosen = self.parts == splits.PARTS.index(part)
        time = None if self.time is None else self.time[chosen]
        return build_sequences(self.users[chosen], self.items[chosen], num_users=len(self.user_map), time=time)


def load_dataset(config: DataConfig, *, source: Any = None) -> Dataset:
    """Return the data set that ``config`` describes.

    ``source``: a frame or an :class:`InteractionLog` instead of ``config.path``. With ``config.store`` the result is
    saved there and opened from there next time, if configuration and source file are the same; otherwise ``DataError``.
    """
    if config.store is None or source is not None:
        return _build(config, source)
    if config.path is None and config.synthetic is None:
        return _open_prepared(config.store, config)
    provenance = _provenance(config)
    if not is_store(config.store):
        try:
            save_store(_build(config, None), config.store, provenance=provenance)
        except DataError:
            if not is_store(config.store):  # else another process made it meanwhile
                raise
    if store_provenance(config.store) != provenance:
        old = store_provenance(config.store)
        differing = sorted(k for k in provenance.keys() | old.keys() if provenance.get(k) != old.get(k))
        raise DataError(
            f"{config.store} was made otherwise (differs in: {', '.join(differing)}); remove it or name another store"
        )
    return open_store(config.store)


def prepare_log(config: DataConfig, *, source: Any = None) -> PreparedLog:
    """Return the filtered, numbered and split rows, from which a data set or sequences are made."""
    if source is None and config.path is None:
        raise ConfigError("nothing to load: give path, synthetic or store")
    log = read_interactions(config.path if source is None else source, options=config.read_options())
    warn_of_discarded_parts(log, config.split)
    rows, left_out = _filtered(log, config)
    name = config.name or (config.path.name.split(".")[0] if config.path else "data")
    numbered = _numbered(rows, np.zeros(len(rows), dtype=np.int8), config, name)
    prepared = _split(numbered, rows, config)
    left_out["users_without_train"] = len(rows) - len(prepared.users)
    return replace(prepared, reading=Reading(rows=len(log), columns=dict(log.columns), left_out=left_out))


def _build(config: DataConfig, source: Any) -> Dataset:
    if source is None and config.synthetic is not None:
        dataset = synthetic_dataset(config.synthetic).dataset
        return replace(dataset, name=config.name) if config.name else dataset
    if source is None and config.path is not None and is_store(resolve(config.path)):
        return _open_prepared(config.path, config)
    return prepare_log(config, source=source).dataset()


def _open_prepared(folder: Path, config: DataConfig) -> Dataset:
    """Open a store under the name given; any option of reading, filtering or splitting is refused."""
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name not in ("path", "store", "name") and value != option.default:
            raise ConfigError(
                f"{option.name}={value!r}, but {folder} is a store: its rows and its split were fixed when it was "
                f"made. Leave the option out, or give the file that it was made from"
            )
    dataset = open_store(resolve(folder))
    return replace(dataset, name=config.name) if config.name else dataset


def _labelled(log: InteractionLog, config: DataConfig) -> InteractionLog:
    if config.split != "column":
        return log
    if log.split is None:
        raise DataError(f"{log.source}: split='column' but there are no split labels; use another split")
    labelled = splits.column_split(log.split, source=log.source)[1]
    if labelled.all():
        return log
    if config.unlabelled == "refuse":
        raise DataError(
            f"{log.source}, {log.row_name(int(np.argmin(labelled)))}: no label in column {config.split_column!r} "
            f"({int((~labelled).sum())} such rows); unlabelled='drop' leaves them out"
        )
    if not labelled.any():
        raise DataError(
            f"{log.source}: none of {len(log)} rows has a label in column {config.split_column!r}; use another split"
        )
    return log.take(labelled)


def _deduplicated(log: InteractionLog, config: DataConfig) -> InteractionLog:
    kept = deduplicate(log, keep=config.duplicates)
    if config.split == "column" and len(kept) < len(log):
        warn_of_shared_pairs(log, config.duplicates)
    return kept


_FILTERS: dict[str, Callable[[InteractionLog, DataConfig], InteractionLog]] = {
    "unlabelled": _labelled,
    "min_rating": lambda log, of: log if of.min_rating is None else threshold(log, of.min_rating),
    "duplicates": _deduplicated,
    "core": lambda log, of: k_core(log, user_core=of.user_core, item_core=of.item_core),
}


def _filtered(log: InteractionLog, config: DataConfig) -> tuple[InteractionLog, dict[str, int]]:
    """Return the rows that stay, and how many each filter left out."""
    left_out = {}
    for name, step in _FILTERS.items():
        kept = step(log, config)
        left_out[name], log = len(log) - len(kept), kept
    return log, left_out


def _numbered(log: InteractionLog, parts: NDArray[np.int8], config: DataConfig, name: str) -> PreparedLog:
    if not config.keep_ids:
        (users, user_map), (items, item_map) = log.users.compact(), log.items.compact()
        return PreparedLog(users, items, parts, log.time, user_map, item_map, name)
    shape = log.shape or (None, None)
    num_users = _count(log, log.users, config.num_users or shape[0], "user")
    num_items = _count(log, log.items, config.num_items or shape[1], "item")
    maps = IdMap.identity(num_users), IdMap.identity(num_items)
    return PreparedLog(log.users.codes, log.items.codes, parts, log.time, *maps, name)


def _count(log: InteractionLog, column: IdColumn, given: int | None, role: str) -> int:
    """Return the number of users or items when ids are taken as given."""
    if column.names is not None:
        raise DataError(
            f"{log.source}: keep_ids=True needs integer {role} ids, found text such as {str(column.names[0])!r}"
        )
    low, high = int(column.codes.min()), int(column.codes.max())
    advice = "use keep_ids=False to number them"
    if low < 0:
        raise DataError(
            f"{log.source}, {log.row_name(int(np.argmin(column.codes)))}: negative {role} id {low}; {advice}"
        )
    row = log.row_name(int(np.argmax(column.codes)))
    if given is not None:
        if high >= given:
            raise DataError(
                f"{log.source}, {row}: {role} id {high} is outside [0, {given}); raise num_{role}s or {advice}"
            )
        return int(given)
    if high >= 1000 * len(column) + 1_000_000:
        raise DataError(
            f"{log.source}, {row}: {role} id {high} would make {high + 1} {role}s of {len(column)} rows; "
            f"{advice}, or insist with num_{role}s"
        )
    return high + 1


def _split(log: PreparedLog, rows: InteractionLog, config: DataConfig) -> PreparedLog:
    seeds = Seeds(config.seed)
    if config.split == "column":
        assert rows.split is not None
        parts, _ = splits.column_split(rows.split, source=rows.source)
        if not (parts == splits.VALID).any() and config.valid_from_train > 0:
            parts = splits.cut_valid(log.users, log.items, parts, share=config.valid_from_train, seeds=seeds)
    elif config.split == "leave_one_out":
        if rows.time is None and config.time_column != "":
            _warn_of_drawn_rows(rows)
        time = None if rows.time is None else times_of(rows, "split='leave_one_out'")
        parts = splits.leave_one_out(log.users, log.items, time=time, seeds=seeds)
    elif config.split == "random":
        parts = splits.random_split(log.users, log.items, ratios=config.ratios, seeds=seeds)
    elif config.split == "temporal" or config.split == "temporal_per_user":
        time = times_of(rows, f"split={config.split!r}")
        per_user = config.split == "temporal_per_user"
        parts = splits.temporal_split(log.users, time, ratios=config.ratios, per_user=per_user)
    else:
        assert_never(config.split)
    done = replace(log, parts=parts)
    if config.users_without_train == "refuse":
        return done
    trained = np.bincount(done.users[parts == splits.TRAIN], minlength=len(done.user_map)) > 0
    kept = trained[done.users]
    return done if kept.all() else _numbered(rows.take(kept), parts[kept], config, done.name)


def _warn_of_drawn_rows(log: InteractionLog) -> None:
    columns = ", ".join(map(repr, [*log.columns.values(), *log.unread])) or "none named"
    warnings.warn(
        f"{log.source}: no time column was found, split='leave_one_out' draws each user's rows at random. Columns: "
        f"{columns}. Name the one that holds times: {ways_to_set('time')}; time_column='' (--set \"time_column=''\") "
        "draws without this remark",
        FastKDWarning,
        stacklevel=6,
    )


def _refuse_bare(log: PreparedLog) -> None:
    bare = np.bincount(log.users[log.parts == splits.TRAIN], minlength=len(log.user_map)) == 0
    if bare.any():
        first = log.user_map.originals[int(np.argmax(bare))]
        raise DataError(
            f"{log.name}: {int(bare.sum())} of {len(bare)} users have no training rows, first: user {first.item()!r}; "
            "raise user_core, use another split, or leave them out with users_without_train='drop'"
        )


def _provenance(config: DataConfig) -> dict[str, Any]:
    values = {k: v for k, v in to_mapping(config).items() if k not in ("store", "path")}
    if config.path is not None:
        values["source"] = {name: file["blake2b"] for name, file in record_files(config.path).items()}
    return values
