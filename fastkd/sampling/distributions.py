"""What negatives are drawn from: frozen values that ``NegativeSampler`` takes as ``distribution``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fastkd.core import ConfigError
from fastkd.core.errors import did_you_mean

MAX_STRATA = 256
MAX_CANDIDATES = 65536
LARGEST_ALPHA = 1.5


@dataclass(frozen=True)
class Uniform:
    """Every item that is left is equally likely."""

    name: ClassVar[str] = "uniform"
    stream: ClassVar[str] = "negatives"


@dataclass(frozen=True)
class Popularity:
    """An item comes in proportion to ``count ** alpha``, its number of users (``0 ** 0`` is 1).

    Mikolov et al., "Distributed representations of words and phrases" (NeurIPS 2013) use 0.75.
    """

    alpha: float = 0.75
    name: ClassVar[str] = "popularity"
    stream: ClassVar[str] = "negatives/popularity"

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)


@dataclass(frozen=True)
class Mixed:
    """A slot is uniform with probability ``share``, else by popularity with ``alpha``.

    Yang et al., "Mixed negative sampling for learning two-tower neural networks" (WWW 2020) mix the two.
    """

    share: float = 0.5
    alpha: float = 0.75
    name: ClassVar[str] = "mixed"
    stream: ClassVar[str] = "negatives/mixed"

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        _check_share("share", self.share)


@dataclass(frozen=True, eq=False)
class Stratified:
    """Each stratum of the catalogue has a share of the slots and is drawn from evenly.

    ``strata``: how many, of equal size by popularity, 0 the coldest; or int[num_items], the stratum of each item.
    ``shares``: of each stratum, summing to 1; None: equal. A stratum of which a user has nothing left gives its share
    to the others, in proportion.
    """

    strata: Any = 4
    shares: Sequence[float] | None = None
    name: ClassVar[str] = "stratified"
    stream: ClassVar[str] = "negatives/stratified"

    def __post_init__(self) -> None:
        if isinstance(self.strata, (bool, float, str)):
            raise ConfigError(f"strata must be a number of strata or an array of them by item, got {self.strata!r}")
        if isinstance(self.strata, int) and not 1 <= self.strata <= MAX_STRATA:
            raise ConfigError(f"strata must be in [1, {MAX_STRATA}], got {self.strata}")
        for share in self.shares if self.shares is not None else ():
            _check_share("shares", share)
        if self.shares is not None and not abs(float(np.sum(self.shares)) - 1) < 1e-6:
            raise ConfigError(f"shares must sum to 1, got {float(np.sum(self.shares))}")


@dataclass(frozen=True, eq=False)
class Hard:
    """Of ``candidates`` uniform draws, the one that scores best (equal scores: the lower id; NaN is the lowest).

    ``scores``: a pair of float32 tables ``(user vectors [num_users, d], item vectors [num_items, d])``, numpy or torch
    on the CPU, read in place at each call, whose inner product is the score; or a function ``scores(users[B],
    items[B, m]) -> float[B, m]``, called once per batch. Zhang et al., "Optimizing top-n collaborative filtering via
    dynamic negative item sampling" (SIGIR 2013).
    """

    scores: tuple[Any, Any] | Callable[[Any, Any], Any]
    candidates: int = 8
    name: ClassVar[str] = "hard"
    stream: ClassVar[str] = "negatives/hard"

    def __post_init__(self) -> None:
        if isinstance(self.candidates, bool) or not isinstance(self.candidates, int):
            raise ConfigError(f"candidates must be an integer, got {self.candidates!r}")
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise ConfigError(f"candidates must be in [1, {MAX_CANDIDATES}], got {self.candidates}")
        if not callable(self.scores) and not (isinstance(self.scores, tuple) and len(self.scores) == 2):
            raise ConfigError("scores must be a function or a pair (user vectors, item vectors)")


Distribution = Uniform | Popularity | Mixed | Stratified | Hard
DISTRIBUTIONS = ("uniform", "popularity", "mixed", "stratified", "hard")


def named(distribution: str | Distribution, alpha: float) -> Distribution:
    """Return the distribution of a name, with ``alpha`` where it has one; a value is returned as it is."""
    if isinstance(distribution, (Uniform, Popularity, Mixed, Stratified, Hard)):
        return distribution
    if not isinstance(distribution, str):
        raise TypeError(f"distribution must be a name or a value of fastkd.sampling, got {type(distribution).__name__}")
    if distribution == "hard":
        raise ConfigError("hard negatives need scores: pass distribution=Hard(scores=..., candidates=...)")
    known: dict[str, Distribution] = {
        "uniform": Uniform(),
        "popularity": Popularity(alpha=alpha),
        "mixed": Mixed(alpha=alpha),
        "stratified": Stratified(),
    }
    if distribution not in known:
        raise ConfigError(
            f"unknown distribution {distribution!r}.{did_you_mean(distribution, DISTRIBUTIONS)} "
            f"Known: {', '.join(DISTRIBUTIONS)}"
        )
    return known[distribution]


def options_of(distribution: Distribution) -> dict[str, Any]:
    """Return what decides the draws beside the data and the seed, as plain values; scores of ``Hard`` stay out."""
    values: dict[str, Any] = {}
    for field in fields(distribution):
        value = getattr(distribution, field.name)
        if field.name == "scores":
            continue
        if field.name == "strata" and not isinstance(value, int):
            value = hashlib.blake2b(np.asarray(value, dtype=np.int64).tobytes(), digest_size=16).hexdigest()
        elif field.name == "shares" and value is not None:
            value = [float(share) for share in value]
        values[field.name] = float(value) if isinstance(value, np.floating) else value
    return values


def _check_alpha(alpha: Any) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 <= alpha <= LARGEST_ALPHA:
        raise ConfigError(f"alpha must be in [0, {LARGEST_ALPHA}], got {alpha!r}")


def _check_share(name: str, share: Any) -> None:
    if isinstance(share, bool) or not isinstance(share, (int, float, np.floating)) or not 0 <= share <= 1:
        raise ConfigError(f"{name} must be in [0, 1], got {share!r}")
