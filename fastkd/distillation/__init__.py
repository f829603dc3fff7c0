"""Floor 6: one distillation method per file; state, schedule and lists only, every formula is an op."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastkd.core.config import from_mapping
from fastkd.core.seeds import Seeds
from fastkd.distillation.bd import BD, BDConfig
from fastkd.distillation.cd import CD, CDConfig
from fastkd.distillation.cost import Cost, Shape, Work
from fastkd.distillation.dcd import DCD, DCDConfig
from fastkd.distillation.de import DE, DEConfig
from fastkd.distillation.hetcomp import HetComp, HetCompConfig
from fastkd.distillation.ir_rrd import IRRRD, IRRRDConfig
from fastkd.distillation.kd_ce import KDCE, KDCEConfig
from fastkd.distillation.method import METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.distillation.rce_kd import RCEKD, RCEKDConfig
from fastkd.distillation.rd import RD, RDConfig
from fastkd.distillation.rrd import RRD, RRDConfig
from fastkd.distillation.unkd import UnKD, UnKDConfig

__all__ = [
    "BD",
    "CD",
    "DCD",
    "DE",
    "IRRRD",
    "KDCE",
    "METHODS",
    "RCEKD",
    "RD",
    "RRD",
    "BDConfig",
    "CDConfig",
    "Cost",
    "DCDConfig",
    "DEConfig",
    "HetComp",
    "HetCompConfig",
    "IRRRDConfig",
    "KDCEConfig",
    "LossParts",
    "Method",
    "OptimizerGroup",
    "RCEKDConfig",
    "RDConfig",
    "RRDConfig",
    "Shape",
    "Step",
    "UnKD",
    "UnKDConfig",
    "Work",
    "build_method",
]


def build_method(name: str, options: Mapping[str, Any], seeds: Seeds) -> Method:
    """Return the method ``name`` with ``options`` (keys of its config; an unknown one is refused by name).

    Raises ``ConfigError`` for an unknown method, key or an impossible value.
    """
    method = METHODS.get(name)
    return method(from_mapping(method.config_type, options, path=name), seeds)
