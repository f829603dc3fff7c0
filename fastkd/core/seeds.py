"""Named, counter-based random streams.

Nothing here has a position: a stream is (root seed, name), a draw is (stream, counters). So there is
no generator state to save, and a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastkd.core.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Seeds:
    """A root seed and the streams derived from it.

    >>> Seeds(0).key("negatives") == Seeds(0).key("negatives")
    True
    >>> Seeds(0).key("negatives") == Seeds(0).key("shuffle")
    False
    """

    root: int

    def __post_init__(self) -> None:
        if isinstance(self.root, bool) or not isinstance(self.root, int) or not 0 <= self.root < 2**63:
            raise ConfigError(f"seed must be an integer in [0, 2**63), got {self.root!r}")

    def key(self, stream: str, *counters: int) -> int:
        """Return the 64-bit key of a stream, optionally at a position (epoch, step, ...)."""
        text = "\x1f".join((str(self.root), stream, *(str(int(c)) for c in counters)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    def child(self, name: str) -> Seeds:
        """Return an independent family of streams, for a part that names its own streams."""
        return Seeds(self.key(f"child/{name}") >> 1)

    def numpy(self, stream: str, *counters: int) -> np.random.Generator:
        """Return a numpy generator for this stream and position."""
        return np.random.Generator(np.random.Philox(key=self.key(stream, *counters)))

    def torch(self, stream: str, *counters: int, device: str = "cpu") -> torch.Generator:
        """Return a torch generator for this stream and position."""
        import torch

        return torch.Generator(device=device).manual_seed(self.key(stream, *counters) >> 1)

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to rebuild the streams: the root seed."""
        return {"root": self.root}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Seeds:
        """Rebuild from :meth:`state_dict`."""
        return cls(root=int(state["root"]))
