"""Which recommender to build: one frozen value, one registry, one function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fastkd.core.errors import ConfigError
from fastkd.core.interactions import Interactions
from fastkd.core.registry import Registry
from fastkd.core.seeds import Seeds
from fastkd.models.protocol import Recommender


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A recommender by name and size.

    ``name``: an entry of ``MODELS``; ``dim``: width of both vectors; ``layers``: propagation depth of graph
    models (others ignore it); ``init_std``: standard deviation of the initial vectors, None takes the
    model's published value.
    """

    name: str = "bpr_mf"
    dim: int = 64
    layers: int = 3
    init_std: float | None = None

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ConfigError(f"dim must be at least 1, got {self.dim}")
        if self.layers < 0:
            raise ConfigError(f"layers must not be negative, got {self.layers}")
        if self.init_std is not None and not (math.isfinite(self.init_std) and self.init_std > 0):
            raise ConfigError(f"init_std must be a positive number, got {self.init_std}")


Builder = Callable[[ModelConfig, Interactions, Seeds], Recommender]

MODELS: Registry[Builder] = Registry("model")
"""Model name -> ``(config, train, seeds) -> Recommender``."""


def build_model(config: ModelConfig, train: Interactions, seeds: Seeds) -> Recommender:
    """Return a fresh model over the users and items of ``train``; its weights depend on ``seeds`` alone."""
    return MODELS.get(config.name)(config, train, seeds)


def normal_parameter(seeds: Seeds, stream: str, rows: int, dim: int, std: float) -> nn.Parameter:
    """Return a parameter Float32[rows, dim] drawn from N(0, std^2); a row does not depend on the rows after it."""
    values = seeds.numpy(stream).standard_normal((rows, dim), dtype=np.float32)
    values *= np.float32(std)
    return nn.Parameter(torch.from_numpy(values))
