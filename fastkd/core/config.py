"""Strict configuration: frozen dataclasses from mappings and YAML.

An unknown key is an error that names the nearest known one; a wrong type is an error that names the
path, the value and what would have worked. Nothing is evaluated.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from fastkd.core.errors import ConfigError, did_you_mean

C = TypeVar("C")


def from_mapping(cls: type[C], values: Mapping[str, Any], *, path: str = "") -> C:
    """Build the dataclass ``cls`` from ``values``; nested dataclasses take nested mappings."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path or 'configuration'}: expected a mapping of {cls.__name__}, got {values!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            where = f"{path}.{key}" if path else str(key)
            raise ConfigError(
                f"unknown key {where!r}.{did_you_mean(str(key), fields)} Known: {', '.join(sorted(fields))}"
            )
    built = {k: _convert(hints[k], v, f"{path}.{k}" if path else k) for k, v in values.items()}
    required = [
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING and name not in built
    ]
    if required:
        raise ConfigError(f"{path or 'configuration'}: missing key{'s' * (len(required) > 1)} {', '.join(required)}")
    return cls(**built)


def conform(config: Any) -> None:
    """Hold a dataclass that is built in Python to what :func:`from_mapping` holds it to: its choices and its paths.

    For ``__post_init__``. A field annotated with ``Literal`` must hold one of its values, else ``ConfigError`` names
    the nearest; text becomes a ``Path`` where one is annotated.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        if _holds_choice_or_path(hints[field.name]):
            settled = _convert(hints[field.name], getattr(config, field.name), field.name)
            object.__setattr__(config, field.name, settled)  # it may be frozen, but is being made


def _holds_choice_or_path(hint: Any) -> bool:
    if hint is Path or get_origin(hint) is Literal:
        return True
    return any(_holds_choice_or_path(member) for member in get_args(hint))


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Convert a plain YAML value to the annotated type, or refuse with the path."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, path)
    if origin is Literal:
        if value in get_args(hint) and not isinstance(value, bool):
            return value
        known = [str(v) for v in get_args(hint)]
        raise ConfigError(
            f"{path}: {value!r} is not allowed.{did_you_mean(str(value), known)} One of: {', '.join(known)}"
        )
    if origin in (tuple, list, Sequence):
        return _convert_sequence(hint, value, path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path}: expected a mapping, got {value!r}")
        return {k: _convert(get_args(hint)[1], v, f"{path}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, path=path)
    return _convert_scalar(hint, value, path)


def _convert_union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in members:
        return None
    failures = []
    for member in (m for m in members if m is not type(None)):
        try:
            return _convert(member, value, path)
        except ConfigError as error:
            failures.append(str(error))
    raise ConfigError(failures[0] if len(failures) == 1 else f"{path}: no alternative fits: {'; '.join(failures)}")


def _convert_sequence(hint: Any, value: Any, path: str) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{path}: expected a list, got {value!r}")
    members = get_args(hint)
    if get_origin(hint) is tuple and not (len(members) == 2 and members[1] is Ellipsis):
        if len(value) != len(members):
            raise ConfigError(f"{path}: expected {len(members)} values, got {len(value)}: {value!r}")
        return tuple(_convert(m, v, f"{path}[{i}]") for i, (m, v) in enumerate(zip(members, value, strict=True)))
    built = [_convert(members[0], v, f"{path}[{i}]") for i, v in enumerate(value)]
    return tuple(built) if get_origin(hint) is tuple else built


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-3 (no dot) as a string; people write it for a number.
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number):
            return number
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    if hint is Path and isinstance(value, (str, os.PathLike)):
        return Path(value)
    name = getattr(hint, "__name__", str(hint))
    raise ConfigError(f"{path}: expected {name}, got {value!r} ({type(value).__name__})")


def to_mapping(config: Any) -> dict[str, Any]:
    """Return nested plain values (lists, dicts, scalars) that :func:`from_mapping` reads back."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    mapping = plain(config)
    assert isinstance(mapping, dict)
    return mapping


def to_yaml(config: Any) -> str:
    """Return the configuration as YAML, keys in declaration order."""
    return str(yaml.safe_dump(to_mapping(config), sort_keys=False))


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping; a missing or malformed file is a ``ConfigError`` that names it."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping at the top level, got {type(values).__name__}")
    return values


def with_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` overrides (values are YAML scalars or lists) to a nested mapping."""
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
    for override in overrides:
        name, separator, text = override.partition("=")
        if not separator or not name:
            raise ConfigError(f"override {override!r} is not of the form key.path=value")
        *parents, leaf = name.strip().split(".")
        node = merged
        for parent in parents:
            child = node.get(parent)
            node[parent] = dict(child) if isinstance(child, Mapping) else {}
            node = node[parent]
        try:
            node[leaf] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"override {override!r}: the value is not YAML") from error
    return merged
