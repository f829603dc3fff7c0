"""From what was typed to a typed configuration: preset name or YAML file, ``--set`` overrides, data paths."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastkd.core.config import from_mapping, read_yaml, to_mapping, with_overrides
from fastkd.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fastkd.data import DataConfig
    from fastkd.presets import StudyConfig

DATA_VARIABLE = "FASTKD_DATA"
DEFAULT_DATA = "../shared/data"


def study_config(
    preset: str | None, file: Path | None, overrides: Sequence[str] = (), *, teacher: Sequence[str] = ()
) -> StudyConfig:
    """Return the study of a preset or a YAML file (exactly one), with overrides applied and checked.

    ``teacher``: files or a run folder that replace the trained teacher.
    """
    from fastkd.presets import PRESETS, StudyConfig

    if (preset is None) == (file is None):
        given = "both" if preset else "neither"
        raise ConfigError(f"give a study file or --preset NAME, got {given}; presets: {', '.join(PRESETS)}")
    values = to_mapping(PRESETS.get(preset)) if preset is not None else read_yaml(file or "")
    values = _of_store(with_overrides(values, overrides), overrides)
    if teacher:
        values["teacher_files"] = list(teacher)
    return from_mapping(StudyConfig, values)


def _of_store(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Leave out how a study reads its own file, where ``--set data.path=...`` names a store in its place."""
    from fastkd.data import is_store
    from fastkd.data.readers import resolve

    typed = with_overrides({}, [override for override in overrides if override.startswith("data.")]).get("data", {})
    try:
        stored = "path" in typed and is_store(resolve(str(typed["path"])))
    except DataError:  # no such file: who reads it says so
        stored = False
    return {**values, "data": typed} if stored else values


def stored_study(folder: Path) -> StudyConfig:
    """Return the configuration a study folder was made with."""
    from fastkd.presets import StudyConfig

    file = folder / "study.yaml"
    if not file.is_file():
        raise ConfigError(f"{folder} is no study folder: it holds no study.yaml")
    return from_mapping(StudyConfig, read_yaml(file))


def data_config(file: Path, overrides: Sequence[str] = ()) -> DataConfig:
    """Return a data configuration for an interaction file, or from a YAML file of ``DataConfig`` keys."""
    from fastkd.data import DataConfig

    values = read_yaml(file) if file.suffix in (".yaml", ".yml") else {"path": str(file)}
    nested = values.get("data")
    return from_mapping(DataConfig, with_overrides(nested if isinstance(nested, Mapping) else values, overrides))


def find_data() -> None:
    """Where ``FASTKD_DATA`` is not set, let relative data paths be looked up in ``../shared/data``, if it exists."""
    if DATA_VARIABLE not in os.environ and Path(DEFAULT_DATA).is_dir():
        os.environ[DATA_VARIABLE] = DEFAULT_DATA


def split_list(text: str | None) -> tuple[str, ...] | None:
    """Return the names of a comma-separated option, or None if it was not given."""
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise ConfigError(f"expected comma-separated names, got {text!r}")
    return names


def seed_list(text: str | None) -> tuple[int, ...] | None:
    """Return the seeds of a comma-separated option, or None if it was not given."""
    names = split_list(text)
    if names is None:
        return None
    bad = [name for name in names if not name.isdigit()]
    if bad:
        raise ConfigError(f"seeds are integers of at least 0, got {bad[0]!r} in {text!r}")
    return tuple(int(name) for name in names)


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the dotted keys at which two plain values differ, each with both values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found = []
        for key in [*old, *(k for k in new if k not in old)]:
            found += differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return found
    return [] if old == new else [f"{path}: {old!r} -> {new!r}"]
