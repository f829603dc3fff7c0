"""What a compiled program leaves to Python. Loaded where one is compiled and never else: it loads the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _uncompiled(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return function(*args, **options)


uncompiled: Callable[..., Any] = torch.compiler.disable(  # type: ignore[no-untyped-call]
    _uncompiled, reason="sparse_grad=True cannot be compiled; leave out fullgraph=True, or use sparse_grad=False"
)
"""Call ``function(*args, **options)`` behind a graph break; with ``fullgraph=True`` the compiler says why it cannot."""
