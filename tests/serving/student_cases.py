"""A small model of each kind with unlike vectors, and what it is asked for."""

import numpy as np
import torch

from fastkd import Seeds
from fastkd.data import IdMap
from fastkd.models import ModelConfig, build_model
from tests.contracts.interactions import random_interactions
from tests.contracts.recommender_contract import shuffled

VECTORS = ("bpr_mf", "lightgcn", "cdae", "sasrec", "simplex")
PAIRS = ("neumf", "deepfm")
TRAIN = random_interactions()
ORDER = shuffled(TRAIN)
USERS = IdMap(np.array([f"user-{i}" for i in range(TRAIN.num_users)]))
ITEMS = IdMap(np.arange(TRAIN.num_items, dtype=np.int64) * 10)
OPTIONS = {"deepfm": {"hidden": [8]}, "sasrec": {"max_length": 9}, "simplex": {"dropout": 0.4}}


def model_of(name, seed=3):
    config = ModelConfig(name=name, dim=6, init_std=0.6, options=OPTIONS.get(name, {}))
    return build_model(config, TRAIN, Seeds(seed), sequences=ORDER).train()


def history(users, width=None, *, shift=False):
    """The items of each user, oldest first, padded at the end; ``shift``: padding in front and in between."""
    rows = [ORDER.row(u)[-width:] if width else ORDER.row(u) for u in users]
    size = width or max(1, *(len(row) for row in rows))
    out = np.full((len(rows), size), -1, dtype=np.int64)
    for row, items in zip(out, rows, strict=True):
        places = (
            np.sort(np.random.default_rng(len(items)).permutation(size)[: len(items)])
            if shift
            else np.arange(len(items))
        )
        row[places] = items
    return torch.from_numpy(out)


def request(name, users, *, shift=False):
    """What the exported tower of model ``name`` is called with for ``users``."""
    ids = torch.tensor(users)
    if name == "sasrec":
        return (history(users, 9, shift=shift),)
    return (ids, history(users, shift=shift)) if name in ("cdae", "simplex") else (ids,)


def ranked(scores, k=7):
    """The best k, equal scores to the lower id."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
