"""Between floors 7 and 8: ready studies, each a typed value; see README.md in this folder."""

from fastkd.core.registry import Registry
from fastkd.presets.citeulike import CITEULIKE, CITEULIKE_RAND
from fastkd.presets.citeulike_lightgcn import CITEULIKE_LIGHTGCN
from fastkd.presets.demo import DEMO
from fastkd.presets.gowalla import GOWALLA
from fastkd.presets.ml1m import ML1M
from fastkd.presets.study import PLAIN, MethodConfig, PublishedConfig, RoleConfig, StudyConfig, TunedConfig

PRESETS: Registry[StudyConfig] = Registry("preset")
"""Preset name -> study."""

for _study in (DEMO, CITEULIKE, CITEULIKE_RAND, CITEULIKE_LIGHTGCN, ML1M, GOWALLA):
    PRESETS.add(_study.name, _study)

__all__ = [
    "PLAIN",
    "PRESETS",
    "MethodConfig",
    "PublishedConfig",
    "RoleConfig",
    "StudyConfig",
    "TunedConfig",
]
