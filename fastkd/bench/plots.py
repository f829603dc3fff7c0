"""Log-log plots as SVG text, nothing but the standard library: they are part of a page that opens offline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 74, 22, 16, 52
INK, SOFT, GRID = "#18181b", "#71717a", "#e4e4e7"
OURS = "#0f766e"
COLOURS = {
    "fastkd": OURS, "torch": "#b45309", "compile": "#6d28d9", "faiss": "#0369a1", "implicit": "#be123c",
    "numpy": "#4d7c0f", "cuvs": "#a21caf", "cce": "#854d0e", "liger": "#1d4ed8", "recbole": "#9f1239",
    "fbgemm": "#0e7490", "published": "#db2777", "base": "#52525b", "product": "#94a3b8", "graph": "#111827",
    "flashlib": "#ea580c",
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one contender, joined by a line if ``line``; ``tips``: what a pointer over them reads."""

    name: str
    points: Sequence[tuple[float, float]]
    tips: Sequence[str] = ()
    labels: Sequence[str] = ()
    line: bool = True
    hollow: bool = False


@dataclass(frozen=True)
class Guide:
    """A line that is no measurement, such as a roof; ``label`` stands at its right end."""

    points: Sequence[tuple[float, float]]
    label: str


def colour(name: str) -> str:
    """Return a contender's colour, the same on every plot."""
    if name in COLOURS:
        return COLOURS[name]
    if name.startswith("fastkd@"):
        return COLOURS["base"]
    return list(COLOURS.values())[1 + sum(name.encode()) % (len(COLOURS) - 1)]


def draw(
    series: Sequence[Series], *, x: str, y: str, guides: Sequence[Guide] = (), size: tuple[int, int] = (WIDTH, HEIGHT)
) -> str:
    """Return an SVG element; both axes are logarithmic, so every number must be above 0."""
    numbers = [*(p for s in series for p in s.points), *(p for g in guides for p in g.points)]
    edge = size[0] - RIGHT - _room(series)
    across = _scale([p[0] for p in numbers], LEFT, edge)
    up = _scale([p[1] for p in numbers], size[1] - BOTTOM, TOP)
    frame = edge, size[1]
    parts = [*_axis(across, frame, x, horizontal=True), *_axis(up, frame, y, horizontal=False)]
    spots = [(across.place(p[0]), up.place(p[1])) for one in series for p in one.points]
    taken = [(spot[0] - 5, spot[1] - 5, spot[0] + 5, spot[1] + 5) for spot in spots]
    for guide in guides:
        parts += _guide(guide, across, up, taken)
    for one in series:
        parts += _series(one, across, up)
    for one in series:
        parts += _labels(one, across, up, taken, size)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-size="12" role="img">'
        + "".join(parts)
        + "</svg>"
    )


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    place: Callable[[float], float]


def _scale(values: Sequence[float], start: float, end: float) -> _Scale:
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.06 * (high - low), 0.08)
    low, high = low - room, high + room

    def place(value: float) -> float:
        return start + (math.log10(value) - low) / (high - low) * (end - start)

    return _Scale(low, high, place)


def _ticks(scale: _Scale) -> list[float]:
    """Return powers of ten; twos and fives between them where those are few."""
    steps = (1,) if scale.high - scale.low > 2.2 else (1, 2, 5)
    found = [s * 10.0**e for e in range(math.floor(scale.low), math.ceil(scale.high) + 1) for s in steps]
    return [v for v in found if scale.low <= math.log10(v) <= scale.high]


def _room(series: Sequence[Series]) -> float:
    """Return the width that the labels at the ends of lines need beside the plot."""
    return max((6.3 * len(s.labels[-1]) for s in series if s.line and s.labels), default=0.0)


def _axis(scale: _Scale, frame: tuple[float, int], title: str, *, horizontal: bool) -> list[str]:
    """Draw one axis; ``frame``: the right edge of the plot and the height of the picture."""
    parts = []
    right, bottom = frame[0], frame[1] - BOTTOM
    for value in _ticks(scale):
        at = scale.place(value)
        if horizontal:
            parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}" stroke="{GRID}"/>')
            parts.append(_text(at, bottom + 18, number(value), SOFT, "middle"))
        else:
            parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{right}" y2="{at:.1f}" stroke="{GRID}"/>')
            parts.append(_text(LEFT - 8, at + 4, number(value), SOFT, "end"))
    if horizontal:
        parts.append(_text((LEFT + right) / 2, frame[1] - 10, title, INK, "middle"))
    else:
        middle = (TOP + bottom) / 2
        turned = f' transform="rotate(-90 16 {middle:.0f})"'
        parts.append(_text(16, middle, title, INK, "middle", turned))
    return parts


def _guide(guide: Guide, across: _Scale, up: _Scale, taken: list[tuple[float, float, float, float]]) -> list[str]:
    path = " ".join(f"{across.place(px):.1f},{up.place(py):.1f}" for px, py in guide.points)
    px, py = guide.points[-1]
    wide = 6.4 * len(guide.label)
    at = across.place(px), up.place(py) - 7
    taken.append((at[0] - wide, at[1] - 10, at[0], at[1] + 4))
    line = f'<polyline points="{path}" fill="none" stroke="{SOFT}" stroke-width="1.4" stroke-dasharray="5 4"/>'
    return [line, _text(*at, guide.label, SOFT, "end")]


def _series(one: Series, across: _Scale, up: _Scale) -> list[str]:
    tint = colour(one.name)
    places = [(across.place(px), up.place(py)) for px, py in one.points]
    parts = []
    if one.line and len(places) > 1:
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        wide = 2.4 if one.name == "fastkd" else 1.6
        parts.append(f'<polyline points="{path}" fill="none" stroke="{tint}" stroke-width="{wide}"/>')
    fill = "#fff" if one.hollow else tint
    for i, (px, py) in enumerate(places):
        tip = f"<title>{escape(one.tips[i])}</title>" if i < len(one.tips) else ""
        parts.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{fill}" stroke="{tint}" stroke-width="1.4">{tip}</circle>'
        )
    return parts


def _labels(
    one: Series, across: _Scale, up: _Scale, taken: list[tuple[float, float, float, float]], size: tuple[int, int]
) -> list[str]:
    """Write labels beside their points, moved up or down until they cover no other."""
    parts = []
    for (px, py), label in zip(one.points, one.labels, strict=False):
        if not label:
            continue
        x, y, wide = across.place(px), up.place(py), 6.3 * len(label)
        left = x + 9 + wide > size[0] - 4
        for shift in (0, -13, 13, -26, 26, -39, 39, -52, 52):
            start = x - 9 - wide if left else x + 9
            box = (start, y + shift - 9, start + wide, y + shift + 4)
            inside = box[1] > TOP and box[3] < size[1] - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                at = x - 9 if left else x + 9
                if shift:
                    line = f'x1="{x:.1f}" y1="{y:.1f}" x2="{at:.1f}" y2="{y + shift:.1f}"'
                    parts.append(f'<line {line} stroke="{SOFT}" stroke-width="0.7"/>')
                parts.append(_text(at, y + shift + 4, label, colour(one.name), "end" if left else "start"))
                break
    return parts


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(x: float, y: float, words: str, tint: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{tint}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def number(value: float) -> str:
    """Return a tick: 0.02, 5, 200, 10k, 1M, 2G."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"
