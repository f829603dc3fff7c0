"""Small random data for the contracts."""

from __future__ import annotations

import numpy as np

from fastkd import Interactions


def random_interactions(num_users: int = 23, num_items: int = 37, per_user: int = 5, seed: int = 0) -> Interactions:
    """Interactions with distinct items per user; the last item belongs to nobody."""
    random = np.random.default_rng(seed)
    items = np.argsort(random.random((num_users, num_items - 1)), axis=1)[:, :per_user]
    users = np.repeat(np.arange(num_users), per_user)
    return Interactions.from_pairs(users, items.ravel(), num_users=num_users, num_items=num_items)
