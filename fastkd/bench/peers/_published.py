"""The way published distillation code does it: masks of users x items, exponentials clamped at 80, dense Adam."""

from __future__ import annotations

from functools import partial

from fastkd.bench.peers import Peer
from fastkd.bench.peers._jobs import epoch

PEER = Peer(
    "published", "torch", "torch", {"rrd_epoch": {"dense Adam": partial(epoch, published=True, sparse=False)}},
    devices=("cpu",),
)  # fmt: skip
