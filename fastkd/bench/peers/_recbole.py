"""RecBole's own ``AbstractSampler.sample_by_key_ids``."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastkd.bench.case import Call, Inputs, Point
from fastkd.bench.peers import Peer, loaded


def uniform(point: Point, i: Inputs) -> Call:
    """Draw as its uniform sampler does, outside each user's set of used items."""
    base: Any = loaded("recbole.sampler.sampler").AbstractSampler
    seen, n, users = i["seen"], i["n"], np.asarray(i["user_ids"])

    class Sampler(base):  # type: ignore[misc]
        """What RecBole's own subclasses add: a uniform draw and the sets of used items."""

        def _uni_sampling(self, sample_num: int) -> Any:
            return np.random.randint(0, i["limit"], sample_num)  # noqa: NPY002 - as RecBole does

        def get_used_ids(self) -> Any:
            return np.array([set(row.tolist()) for row in seen])

    sampler = Sampler("uniform", 1.0)
    return lambda: sampler.sample_by_key_ids(users, n).numpy().reshape(n, -1).T


PEER = Peer("recbole", "recbole", "recbole", {"negatives_uniform": {"": uniform}}, devices=("cpu",))
