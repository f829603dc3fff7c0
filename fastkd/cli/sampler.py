"""What a trial tries: Optuna's tree-structured Parzen estimator, made anew for each trial.

Bergstra et al., "Algorithms for hyper-parameter optimization" (NeurIPS'11), by Optuna, an optional dependency.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastkd.core.errors import ConfigError
from fastkd.core.seeds import Seeds

RANDOM_TRIALS = 5
"""Trials before the estimator begins to learn."""
ATTEMPTS = 20
"""Proposals for a trial before one that was tried before is tried again."""


def check_installed() -> None:
    """Refuse to tune without Optuna, saying how to get it."""
    _optuna()


def proposed(
    space: Mapping[str, Any],
    own: Mapping[str, Any],
    rows: Sequence[tuple[Mapping[str, Any], float | None]],
    seed: int,
    stream: str,
) -> dict[str, Any]:
    """Return the values of the next trial, a function of the arguments alone.

    ``rows``: values and metric (None: failed) of each trial so far; higher is better. ``own`` values outside ``space``
    widen it, for the first trial has them.
    """
    optuna = _optuna()
    spaces = {key: _distribution(optuna, values, own[key]) for key, values in space.items()}
    found: dict[str, Any] = {}
    for attempt in range(ATTEMPTS):
        sampler = optuna.samplers.TPESampler(
            seed=Seeds(seed).key(stream, len(rows), attempt) % 2**32, n_startup_trials=RANDOM_TRIALS
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for values, value in rows:
            # What no range can hold (None for a number) is not learned from.
            with contextlib.suppress(ValueError, TypeError):
                if value is not None:
                    study.add_trial(_learned(optuna, spaces, values, value))
        found = study.ask(fixed_distributions=spaces).params
        if all(found != dict(values) for values, _ in rows):
            break
    return {key: found[key] for key in space}


def _learned(optuna: Any, spaces: Mapping[str, Any], values: Mapping[str, Any], value: float) -> Any:
    return optuna.trial.create_trial(params=dict(values), distributions=dict(spaces), value=value)


def _optuna() -> Any:
    try:
        optuna: Any = importlib.import_module("optuna")
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError("--tune needs Optuna, which is not installed: pip install 'fastkd[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _distribution(optuna: Any, values: Any, own: Any) -> Any:
    """Return the range or choices as Optuna has them, widened to the student's own value."""
    if not isinstance(values, Mapping):
        return optuna.distributions.CategoricalDistribution([*values, *([] if own in values else [own])])
    low, high, log = values["low"], values["high"], bool(values.get("log"))
    if isinstance(own, (int, float)) and (own > 0 or not log):
        low, high = min(low, own), max(high, own)
    if isinstance(low, int) and isinstance(high, int) and not isinstance(own, float):
        return optuna.distributions.IntDistribution(low, high, log=log)
    return optuna.distributions.FloatDistribution(low, high, log=log)
