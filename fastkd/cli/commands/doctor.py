"""``fastkd doctor``: what this machine can run, and what to do about the rest."""

from __future__ import annotations

from rich.text import Text

from fastkd.cli.console import print_json, print_table, table
from fastkd.cli.options import Json

_REMEDIES = {
    "native samplers": "build it: pip install . (or pip install -e .) needs a C++17 compiler and CMake",
    "torch": "pip install 'torch>=2.10'",
    "numba": "pip install 'numba>=0.60'; until then the CPU runs the slower reference backend",
    "triton": "pip install 'triton>=3.4' (Linux x86_64); only GPU runs need it",
    "gpu": "install a CUDA build of torch on a machine with an NVIDIA GPU; everything runs on the CPU without",
    "backend numba": "pip install 'numba>=0.60'",
    "backend triton": "needs the package triton and a CUDA device (TRITON_INTERPRET=1 interprets it, slowly)",
}
_PARTS = ("name", "active", "detail")


def doctor(*, json: Json = False) -> None:
    """Show what is active on this machine, why, and what to do about what is not.

    Example:  fastkd doctor
    """
    from fastkd.core.capability import findings

    found = findings()
    if json:
        print_json([{part: getattr(f, part) for part in _PARTS} | {"remedy": remedy(f.name, f.active)} for f in found])
        return
    rows = [
        (
            Text("✓", style="green") if f.active else Text("-", style="yellow"),
            f.name,
            f.detail,
            remedy(f.name, f.active),
        )
        for f in found
    ]
    print_table(table("This machine", ("", "part", "finding", "what to do"), rows))


def remedy(name: str, active: bool) -> str:
    """Return what to do about a missing part; empty for one that is there."""
    return "" if active else _REMEDIES.get(name, "see the README")
