"""Floor 6: one distillation method per file; state, schedule and lists only, every formula is an op."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastkd.core.config import from_mapping
from fastkd.core.seeds import Seeds
from fastkd.distillation.bd import BD, BDConfig
from fastkd.distillation.cd import CD, CDConfig
from fastkd.distillation.combined import Combined, CombinedConfig
from fastkd.distillation.cost import Cost, Shape, Work
from fastkd.distillation.dcd import DCD, DCDConfig
from fastkd.distillation.de import DE, DEConfig
from fastkd.distillation.freqd import FreqD, FreqDConfig
from fastkd.distillation.ftd import FTD, FTDConfig
from fastkd.distillation.hetcomp import HetComp, HetCompConfig
from fastkd.distillation.hint import Hint, HintConfig
from fastkd.distillation.htd import HTD, HTDConfig
from fastkd.distillation.ir_rrd import IRRRD, IRRRDConfig
from fastkd.distillation.kd_ce import KDCE, KDCEConfig
from fastkd.distillation.method import JOINT, METHODS, LossParts, Method, OptimizerGroup, Step
from fastkd.distillation.pckd import PCKD, PCKDConfig
from fastkd.distillation.phr import PHR, PHRConfig
from fastkd.distillation.prm_kd import PRMKD, PRMKDConfig
from fastkd.distillation.rce_kd import RCEKD, RCEKDConfig
from fastkd.distillation.rd import RD, RDConfig
from fastkd.distillation.rrd import RRD, RRDConfig
from fastkd.distillation.unkd import UnKD, UnKDConfig

__all__ = [
    "BD",
    "CD",
    "DCD",
    "DE",
    "FTD",
    "HTD",
    "IRRRD",
    "KDCE",
    "METHODS",
    "PCKD",
    "PHR",
    "PRMKD",
    "RCEKD",
    "RD",
    "RRD",
    "BDConfig",
    "CDConfig",
    "Combined",
    "CombinedConfig",
    "Cost",
    "DCDConfig",
    "DEConfig",
    "FTDConfig",
    "FreqD",
    "FreqDConfig",
    "HTDConfig",
    "HetComp",
    "HetCompConfig",
    "Hint",
    "HintConfig",
    "IRRRDConfig",
    "KDCEConfig",
    "LossParts",
    "Method",
    "OptimizerGroup",
    "PCKDConfig",
    "PHRConfig",
    "PRMKDConfig",
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


def build_method(name: str | Sequence[str], options: Mapping[str, Any], seeds: Seeds | int) -> Method:
    """Return the method ``name`` with ``options`` (keys of its config; an unknown one is refused by name).

    Several names, or one such as ``"de+rrd"``, stand for methods that train together: see :class:`CombinedConfig`.
    ``seeds``: or a number, the root of them.
    Raises ``ConfigError`` for an unknown method, key or an impossible value.
    """
    joined = name if isinstance(name, str) else JOINT.join(name)
    method = METHODS.get(joined)
    rooted = seeds if isinstance(seeds, Seeds) else Seeds(seeds)
    return method(from_mapping(method.config_type, options, path=joined), rooted)
