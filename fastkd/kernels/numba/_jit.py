"""``numba.njit`` with this project's options, and a compile cache that notices every edit in this folder."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import IndexDataCacheFile

F = TypeVar("F", bound=Callable[..., Any])


def jit(**options: Any) -> Callable[[F], F]:
    """Return ``numba.njit(nogil=True, error_model="numpy", **options)`` with a safe cache, as a decorator.

    No ``fastmath`` by default: NaN, infinities and the order of a sum are part of what an op means.
    ``cache=False`` compiles anew in each process.
    """
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy", **options}
    cached = settings.pop("cache", True)

    def decorate(function: F) -> F:
        dispatcher = numba.njit(**settings)(function)
        if cached:
            _enable_cache(dispatcher)
        return cast("F", dispatcher)

    return decorate


def _enable_cache(dispatcher: Any) -> None:
    """Cache machine code on disk, keyed by all sources of this folder.

    numba keys its cache by the one file a function is written in, so a kernel would go on running old code of a
    helper imported from another file. Where no folder can be written, code is compiled anew in each process.
    """
    try:
        dispatcher.enable_caching()
    except RuntimeError:
        return
    cache, stamp = dispatcher._cache, _sources()
    name = f"{cache._impl.filename_base}-{stamp[:8]}"
    cache._cache_file = IndexDataCacheFile(cache._cache_path, name, stamp)  # type: ignore[no-untyped-call]


@functools.cache
def _sources() -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
