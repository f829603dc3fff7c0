"""Who fastkd is measured beside: one file a peer, each says what it needs and which cases it can run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastkd.bench.case import Call, Inputs, Point
from fastkd.core.capability import has_module
from fastkd.core.errors import ConfigError, did_you_mean

Way = Callable[[Point, Inputs], Call]
"""(point, inputs) -> a call to time; raises :class:`Unable` for what the peer cannot do."""


class Unable(Exception):  # noqa: N818  (a state of the peer, not an error of ours)
    """A peer cannot run a case; the reason is shown instead of a figure."""


class Foreign(Unable):
    """A peer has no operation like the case's: nothing to report."""


@dataclass(frozen=True)
class Peer:
    """A library or a way of writing it. ``ways``: case -> variants by label; the quickest variant is timed.

    ``module``: what must be importable; ``package``: what to install; ``every``: ways for cases not in ``ways``.
    """

    name: str
    module: str
    package: str
    ways: Mapping[str, Mapping[str, Way]]
    devices: tuple[str, ...] = ("cpu", "cuda")
    every: Callable[[str], Mapping[str, Way]] | None = None

    def variants(self, case: str, device: str) -> Mapping[str, Way]:
        """Return the ways of a case by label; raises :class:`Unable` with the reason where there is none."""
        ways = self.ways.get(case) or (self.every(case) if self.every is not None else {})
        if not ways:
            raise Foreign("has no such operation")
        if device not in self.devices:
            raise Unable(f"runs on {', '.join(self.devices)} only")
        if not has_module(self.module):
            raise Unable(f"not installed (pip install {self.package})")
        return ways


NAMES = (
    "torch",
    "compile",
    "cce",
    "liger",
    "faiss",
    "cuvs",
    "implicit",
    "recbole",
    "numpy",
    "fbgemm",
    "flashlib",
    "published",
    "product",
    "graph",
)


def peer_named(name: str) -> Peer:
    """Return a peer; raises ``ConfigError`` listing what there is."""
    if name not in NAMES:
        raise ConfigError(f"no peer {name!r}.{did_you_mean(name, NAMES)} Known: {', '.join(NAMES)}")
    peer: Peer = importlib.import_module(f"fastkd.bench.peers._{name}").PEER
    return peer


def loaded(name: str) -> Any:
    """Import a peer's module; whatever its import raises is a reason to leave it out."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken installation: missing libraries, another version of torch
        raise Unable(f"{name} cannot be imported: {said(error)}") from error


def said(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['-'])[0][:120]}"
