"""Floor 6: one distillation method per file; state, schedule and lists only, every formula is an op."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastkd.core.config import from_mapping
from fastkd.core.seeds import Seeds
from fastkd.distillation.bd import BD, BDConfig
from fastkd.distillation.de import DE, DEConfig
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.distillation.rrd import RRD, RRDConfig

__all__ = [
    "BD",
    "DE",
    "METHODS",
    "RRD",
    "BDConfig",
    "DEConfig",
    "LossParts",
    "Method",
    "OptimizerGroup",
    "RRDConfig",
    "Step",
    "build_method",
]


def build_method(name: str, options: Mapping[str, Any], seeds: Seeds) -> Method:
    """Return the method ``name`` with ``options`` (keys of its config; an unknown one is refused by name).

    Raises ``ConfigError`` for an unknown method, key or an impossible value.
    """
    method = METHODS.get(name)
    return method(from_mapping(method.config_type, options, path=name), seeds)
