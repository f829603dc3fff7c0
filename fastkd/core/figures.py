"""Numbers as a reader wants them: a few digits, no powers of ten."""

from __future__ import annotations

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def digits(value: float, count: int) -> str:
    """Return a number in ``count`` digits and all those before the point: ``10,842``, never ``1.084e+04``."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (count - 1) else f"{value:.{count}g}"


def prefixed(value: float) -> str:
    """Return three digits and what a unit follows: ``12.1 M``, ``115 T``, ``5 ``."""
    power = 0
    while float(f"{value:.3g}") >= 1000 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}"
