"""Which recommender to build: one frozen value, one registry, one function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from fastkd.core.config import from_mapping, to_mapping
from fastkd.core.errors import ConfigError, DataError
from fastkd.core.interactions import Interactions
from fastkd.core.registry import Registry
from fastkd.core.seeds import Seeds
from fastkd.data.sequences import UserSequences
from fastkd.models.protocol import Recommender


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A recommender by name and size.

    ``name``: an entry of ``MODELS``; ``dim``: width of both vectors; ``layers``: propagation depth of graph
    models (others ignore it); ``init_std``: standard deviation of the initial vectors, None takes the
    model's published value. ``options``: what the model alone has, such as ``hidden`` of NeuMF; see its ``...Config``.
    """

    name: str = "bpr_mf"
    dim: int = 64
    layers: int = 3
    init_std: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ConfigError(f"dim must be at least 1, got {self.dim}")
        if self.layers < 0:
            raise ConfigError(f"layers must not be negative, got {self.layers}")
        if self.init_std is not None and not (math.isfinite(self.init_std) and self.init_std > 0):
            raise ConfigError(f"init_std must be a positive number, got {self.init_std}")


C = TypeVar("C")

Builder = Callable[[ModelConfig, Interactions, Seeds], Recommender]


@dataclass(frozen=True)
class FromSequences:
    """A builder that reads the order of time: ``(config, train, sequences, seeds) -> Recommender``."""

    build: Callable[[ModelConfig, Interactions, UserSequences, Seeds], Recommender]


MODELS: Registry[Builder | FromSequences] = Registry("model")
"""Model name -> ``(config, train, seeds) -> Recommender``, or a builder from sequences."""


def build_model(
    config: ModelConfig, train: Interactions, seeds: Seeds | int, *, sequences: UserSequences | None = None
) -> Recommender:
    """Return a fresh model over the users and items of ``train``; its weights depend on ``seeds`` alone.

    ``seeds``: or a number, the root of them. ``sequences``: the items of ``train`` in the order of time
    (``dataset.sequences``); sequential models need them.
    """
    seeds = seeds if isinstance(seeds, Seeds) else Seeds(seeds)
    model = _built(config, train, seeds, sequences)
    model.built_from = {"model": model_mapping(config), "seed": seeds.root}
    return model


def _built(config: ModelConfig, train: Interactions, seeds: Seeds, sequences: UserSequences | None) -> Recommender:
    builder = MODELS.get(config.name)
    if not isinstance(builder, FromSequences):
        return builder(config, train, seeds)
    if sequences is None:
        raise DataError(
            f"{config.name} reads each user's items in the order of time, and there are none: pass "
            "sequences=dataset.sequences of a data set loaded with a time column (an older store must be made anew)"
        )
    return builder.build(config, train, sequences, seeds)


def options_of(config: ModelConfig, kind: type[C]) -> C:
    """Return the model's own options; unknown keys and wrong types are refused by name."""
    return from_mapping(kind, config.options, path="model.options")


@dataclass(frozen=True)
class NoOptions:
    """The options of a model that has none of its own."""


def model_mapping(config: ModelConfig) -> dict[str, Any]:
    """Return ``config`` as plain values; no ``options`` where there are none, as before models had any."""
    values = to_mapping(config)
    return values if values["options"] else {k: v for k, v in values.items() if k != "options"}


def normal_parameter(seeds: Seeds, stream: str, rows: int, dim: int, std: float) -> nn.Parameter:
    """Return a parameter Float32[rows, dim] drawn from N(0, std^2); a row does not depend on the rows after it."""
    values = seeds.numpy(stream).standard_normal((rows, dim), dtype=np.float32)
    values *= np.float32(std)
    return nn.Parameter(torch.from_numpy(values))
