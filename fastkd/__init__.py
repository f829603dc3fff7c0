"""fastkd: native-accelerated knowledge distillation for top-K recommenders at catalogue scale.

``import fastkd`` is light: rooms load on first use, and neither triton nor numba nor CUDA is touched.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from fastkd.core import Interactions, Seeds

__version__ = "0.1.0"

_ROOMS = ("data", "distillation", "evaluation", "losses", "models", "ops", "presets", "sampling", "serving", "training")

__all__ = ["Interactions", "Seeds", "__version__", *_ROOMS]


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"fastkd.{name}")
    raise AttributeError(f"module 'fastkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
