"""Full-catalogue evaluation: rank every item for every user with targets, seen items masked."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fastkd.core.capability import BACKENDS
from fastkd.core.errors import ConfigError, DataError
from fastkd.core.interactions import Interactions
from fastkd.data.dataset import Dataset
from fastkd.evaluation.metrics import (
    METRICS,
    Denominator,
    Floats,
    UserMetrics,
    check_ks,
    check_metrics,
    metrics_from_lists,
    metrics_from_ranks,
)
from fastkd.evaluation.streaming import Source, check_catalogue, iter_ranks, iter_topk, tables_of
from fastkd.models.pairs import PairTables
from fastkd.models.teacher import Teacher

Split = Literal["valid", "test"]
Mask = Literal["train", "train+valid"]
Path = Literal["auto", "topk", "ranks"]


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How to evaluate.

    ``mask``: items removed from a user's ranking. ``"train+valid"`` removes validation items too when the
    test split is ranked; on the validation split both mean train, for its items are the targets there.
    ``denominator``: ``"users_with_targets"`` leaves users without targets out of the mean,
    ``"all_users"`` counts them as 0. ``memory_budget_mb`` sizes the chunks of users to that working
    memory, beside the tables and the program itself; it never changes a result. Nor does ``path``: ``"topk"`` makes
    lists of the best K items, ``"ranks"`` counts the ranks of the targets (for sources with tables, and cut-offs may
    then exceed what a list should hold), ``"auto"`` takes what :func:`cheaper_path` expects to be faster.
    """

    ks: tuple[int, ...] = (10, 20)
    mask: Mask = "train"
    metrics: tuple[str, ...] = METRICS
    denominator: Denominator = "users_with_targets"
    memory_budget_mb: int = 256
    backend: str = "auto"
    path: Path = "auto"

    def __post_init__(self) -> None:
        check_ks(self.ks)
        check_metrics(self.metrics)
        for name, value, known in (
            ("mask", self.mask, ("train", "train+valid")),
            ("denominator", self.denominator, ("users_with_targets", "all_users")),
            ("path", self.path, ("auto", "topk", "ranks")),
            ("backend", self.backend, ("auto", *BACKENDS)),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.memory_budget_mb < 1:
            raise ConfigError(f"memory_budget_mb must be at least 1, got {self.memory_budget_mb!r}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """Metrics of one source on one split.

    ``metrics``: ``"ndcg@10"`` -> mean over ``users``. ``per_user``: the same names -> Float64[U_eval],
    row by row with ``users`` Int64[U_eval] (ascending). ``excluded_users``: users left out of the mean;
    ``users_without_targets``: users whose row in the split is empty, left out or not.
    """

    metrics: Mapping[str, float]
    per_user: Mapping[str, Floats]
    users: NDArray[np.int64]
    excluded_users: int
    users_without_targets: int
    split: str
    config: EvalConfig
    rank_seconds: float = field(default=0.0)

    @property
    def num_users_evaluated(self) -> int:
        """Number of users in the mean."""
        return len(self.users)

    @property
    def users_per_second(self) -> float:
        """Users ranked per second of wall time (those with targets; metrics included)."""
        ranked = self.num_users_evaluated + self.excluded_users - self.users_without_targets
        return ranked / self.rank_seconds if self.rank_seconds > 0 else float("nan")


def evaluate(
    source: Source, dataset: Dataset, split: Split = "valid", *, config: EvalConfig | None = None
) -> Evaluation:
    """Rank the whole catalogue for every user with targets in ``split`` and average the metrics.

    ``source``: tables, a recommender (its frozen tables) or a teacher (its tables, or else its lists). ``dataset``:
    the users and items that ``source`` was made for. ``split``: ``"valid"`` or ``"test"``. ``config``: see
    :class:`EvalConfig`.

    Returns an :class:`Evaluation`; it depends neither on ``memory_budget_mb`` nor on ``path``.

    Raises ``ConfigError`` for an unknown split, a cut-off larger than the catalogue, or ``path="ranks"`` with a teacher
    that has lists only; ``DataError`` for a source with other numbers of users or items than the data.
    """
    config = config or EvalConfig()
    if split not in ("valid", "test"):
        raise ConfigError(f"split must be 'valid' or 'test', got {split!r}")
    targets = dataset.valid if split == "valid" else dataset.test
    masks = [dataset.train]
    if split == "test" and config.mask == "train+valid":
        masks.append(dataset.valid)
    check_catalogue(max(config.ks), dataset.num_items)
    started = time.perf_counter()
    users = np.flatnonzero(targets.degrees() > 0).astype(np.int64)
    parts = list(_measured(source, dataset, users, targets, masks, config))
    return _gather(parts, users, targets.num_users, split, config, time.perf_counter() - started)


def mean_evaluation(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Return the evaluation whose per-user values are means over runs (seeds) on the same users."""
    if not evaluations:
        raise DataError("mean of no evaluations; give at least one")
    first = evaluations[0]
    for other in evaluations[1:]:
        check_comparable(first, other)
        if set(other.per_user) != set(first.per_user):
            raise DataError(f"metrics differ: {sorted(first.per_user)} and {sorted(other.per_user)}")
    per_user = {name: np.mean([e.per_user[name] for e in evaluations], axis=0) for name in first.per_user}
    return Evaluation(
        metrics={name: _mean(values) for name, values in per_user.items()},
        per_user=per_user,
        users=first.users,
        excluded_users=first.excluded_users,
        users_without_targets=first.users_without_targets,
        split=first.split,
        config=first.config,
        rank_seconds=sum(e.rank_seconds for e in evaluations) / len(evaluations),
    )


def check_comparable(a: Evaluation, b: Evaluation) -> None:
    """Refuse two evaluations over different splits, masks, denominators or users, naming the difference."""
    for name, left, right in (
        ("split", a.split, b.split),
        ("mask", a.config.mask, b.config.mask),
        ("denominator", a.config.denominator, b.config.denominator),
    ):
        if left != right:
            raise DataError(f"evaluations differ in {name}: {left!r} and {right!r}")
    if len(a.users) != len(b.users):
        raise DataError(f"evaluations cover different users: {len(a.users)} and {len(b.users)} of them")
    differ = np.flatnonzero(a.users != b.users)
    if len(differ):
        at = int(differ[0])
        raise DataError(f"evaluations cover different users: entry {at} is user {a.users[at]} and user {b.users[at]}")


def cheaper_path(num_items: int, k: int, targets_per_user: float) -> Literal["topk", "ranks"]:
    """Return the path that should take less time, by a model in units of one score of a matrix product.

    For N items, lists of K and C targets a user (mean)::

        topk:   N + 70 K + 0.0006 K N
        ranks:  N (1.2 + 0.08 min(C, 16) + 0.02 max(C - 16, 0))

    Fitted to the numba kernels at D = 64, N = 20 thousand and 1 million, K and C from 1 to 1000. So ranks are for
    long lists (K = N is one sweep like any other), short lists are cheaper at the usual cut-offs.
    """
    topk = num_items + 70.0 * k + 0.0006 * k * num_items
    ranks = num_items * (1.2 + 0.08 * min(targets_per_user, 16.0) + 0.02 * max(targets_per_user - 16.0, 0.0))
    return "ranks" if ranks < topk else "topk"


def _measured(
    source: Source,
    dataset: Dataset,
    users: NDArray[np.int64],
    targets: Interactions,
    masks: Sequence[Interactions],
    config: EvalConfig,
) -> Iterator[UserMetrics]:
    """Yield the metrics of chunks of users."""
    tables, k = tables_of(source), max(config.ks)
    if tables is None:
        if config.path == "ranks":
            raise ConfigError("path='ranks' needs tables, and this teacher has lists only; use path='auto' or 'topk'")
        assert isinstance(source, Teacher)
        for chunk, ids in _listed(source, dataset, users, masks, config):
            yield metrics_from_lists(ids, targets.rows(chunk), config.ks, config.metrics)
        return
    _check_shape(tables.num_users, tables.num_items, dataset)
    options = {"masks": masks, "memory_budget_mb": config.memory_budget_mb, "backend": config.backend}
    if isinstance(tables, PairTables):
        if config.path == "ranks":
            raise ConfigError("path='ranks' needs vectors, and this model scores pairs; use path='auto' or 'topk'")
        config = dataclasses.replace(config, path="topk")
    mean = float(targets.degrees()[users].mean()) if len(users) else 0.0
    path = cheaper_path(dataset.num_items, k, mean) if config.path == "auto" else config.path
    if path == "ranks":
        for chunk, ranks in iter_ranks(tables, users, targets, **options):  # type: ignore[arg-type]
            yield metrics_from_ranks(ranks, targets.rows(chunk), config.ks, config.metrics)
    else:
        for chunk, ids, _ in iter_topk(tables, users, k, **options):  # type: ignore[arg-type]
            yield metrics_from_lists(ids, targets.rows(chunk), config.ks, config.metrics)


def _listed(
    teacher: Teacher, dataset: Dataset, users: NDArray[np.int64], masks: Sequence[Interactions], config: EvalConfig
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Yield chunks of users with a teacher's own lists."""
    k = max(config.ks)
    _check_shape(teacher.num_users, teacher.num_items, dataset)
    lists = teacher.lists(k, masks[0] if len(masks) == 1 else masks[0].union(masks[1])).ids
    rows = max(1, config.memory_budget_mb * 2**20 // (128 * k))
    for start in range(0, len(users), rows):
        chunk = users[start : start + rows]
        yield chunk, lists[torch.from_numpy(chunk).to(lists.device)]


def _check_shape(num_users: int, num_items: int, dataset: Dataset) -> None:
    if (num_users, num_items) != (dataset.num_users, dataset.num_items):
        raise DataError(
            f"the source ranks {num_users} users x {num_items} items, "
            f"the data hold {dataset.num_users} users x {dataset.num_items} items"
        )


def _gather(
    parts: list[UserMetrics],
    with_targets: NDArray[np.int64],
    num_users: int,
    split: str,
    config: EvalConfig,
    seconds: float,
) -> Evaluation:
    """Join the chunks; scatter over all users where the convention counts them."""
    names = [f"{metric}@{k}" for metric in config.metrics for k in config.ks]
    per_user = {name: np.concatenate([np.zeros(0), *(part.values[name] for part in parts)]) for name in names}
    users, without = with_targets, num_users - len(with_targets)
    if config.denominator == "all_users":
        users = np.arange(num_users, dtype=np.int64)
        for name, values in per_user.items():
            spread = np.zeros(num_users)
            spread[with_targets] = values
            per_user[name] = spread
    return Evaluation(
        metrics={name: _mean(values) for name, values in per_user.items()},
        per_user=per_user,
        users=users,
        excluded_users=num_users - len(users),
        users_without_targets=without,
        split=split,
        config=config,
        rank_seconds=seconds,
    )


def _mean(values: Floats) -> float:
    """Return the mean, NaN over nobody (an empty split)."""
    return float(values.mean()) if len(values) else float("nan")
