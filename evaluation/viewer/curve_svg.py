"""Curves and histograms as small SVG drawings, made on the server: no library in the page, and nothing to wait for.

Colours come from the page's style sheet by class, so that they follow light and dark.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.viewer.metric_log import Points

WIDTH, HEIGHT = 340, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 8, 20
_MOST_POINTS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One polyline; `colour` counts the classes of the style sheet."""

    name: str
    path: str
    colour: int
    points: Sequence[tuple[float, float]]
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark on an axis, at a pixel."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A drawing of one or more lines over steps; `area` is where values lie, as (left, top, right, bottom)."""

    title: str
    lines: Sequence[Line]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT
    area: tuple[int, int, int, int] = (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)

    @property
    def words(self) -> str:
        """The drawing in a sentence, for those who do not see it."""
        told = "; ".join(
            f"{line.name} from {short(line.points[0][1])} to {short(line.last)}" for line in self.lines if line.points
        )
        return f"{self.title}: {told}, steps {short(self.x_range[0])} to {short(self.x_range[1])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Bars of a histogram: (x, y, width, height, label) each."""

    title: str
    bars: Sequence[tuple[float, float, float, float, str]]
    x_ticks: Sequence[Tick]
    total: float
    width: int = WIDTH
    height: int = HEIGHT
    area: tuple[int, int, int, int] = (8, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)


def curve(title: str, series: Mapping[str, Points]) -> Curve | None:
    """A drawing of these series over one another; None where there is no point at all."""
    drawn = {name: thin(points) for name, points in series.items() if points}
    if not drawn:
        return None
    xs = [x for points in drawn.values() for x, _ in points]
    ys = [y for points in drawn.values() for _, y in points]
    x_range = (min(xs), max(xs)) if max(xs) > min(xs) else (min(xs) - 0.5, max(xs) + 0.5)
    y_range, steps = nice_range(min(ys), max(ys))
    left, top, right, bottom = _LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM

    def px(x: float) -> float:
        return left + (x - x_range[0]) / (x_range[1] - x_range[0]) * (right - left)

    def py(y: float) -> float:
        return bottom - (y - y_range[0]) / (y_range[1] - y_range[0]) * (bottom - top)

    lines = [
        Line(
            name=name,
            path="M" + "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in points),
            colour=i % 6,
            points=points,
            last=series[name][-1][1],
        )
        for i, (name, points) in enumerate(drawn.items())
    ]
    x_ticks = [Tick(at=px(x), label=short(x)) for x in dict.fromkeys((min(xs), max(xs)))]
    apart = steps[1] - steps[0]
    return Curve(
        title=title,
        lines=lines,
        x_ticks=x_ticks,
        y_ticks=[Tick(at=py(y), label=tick_label(y, apart)) for y in steps],
        x_range=x_range,
        y_range=y_range,
    )


def sparkline(points: Points, width: int = 120, height: int = 28) -> str:
    """The path of a line without axes, over its own range."""
    thinned = thin(points, 60)
    if not thinned:
        return ""
    xs, ys = [x for x, _ in thinned], [y for _, y in thinned]
    low, high = min(ys), max(ys)
    span_x, span_y = (max(xs) - min(xs)) or 1.0, (high - low) or 1.0
    placed = [
        (
            2 + (x - min(xs)) / span_x * (width - 4),
            height - 3 - ((y - low) / span_y if high > low else 0.5) * (height - 6),
        )
        for x, y in thinned
    ]
    if len(placed) == 1:
        placed.append((width - 2.0, placed[0][1]))
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)


def histogram(title: str, found: Mapping[str, Any]) -> Histogram | None:
    """Bars of equal width for counts between edges; None where it is empty or no histogram."""
    try:
        edges = [float(edge) for edge in found["edges"]]
        counts = [float(count) for count in found["counts"]]
    except (KeyError, TypeError, ValueError):
        return None
    total = sum(counts)
    if len(edges) != len(counts) + 1 or not total > 0 or not math.isfinite(total):
        return None
    left, top, right, bottom = 8, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    each, most = (right - left) / len(counts), max(counts)
    bars = []
    for i, count in enumerate(counts):
        height = count / most * (bottom - top)
        label = f"{short(edges[i])} to {short(edges[i + 1])}: {short(count)} ({count / total:.1%})"
        bars.append((left + i * each + 0.5, bottom - height, max(0.5, each - 1), height, label))
    marks = sorted({0, len(edges) // 4, len(edges) // 2, 3 * len(edges) // 4, len(edges) - 1})
    ticks = [Tick(at=left + i * each, label=short(edges[i])) for i in marks]
    return Histogram(title=title, bars=bars, x_ticks=ticks, total=total)


def thin(points: Points, most: int = _MOST_POINTS) -> Points:
    """At most about so many points: the lowest and the highest of each stretch, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    each = len(points) / (most / 2)
    kept: Points = []
    for i in range(most // 2):
        stretch = points[int(i * each) : int((i + 1) * each)]
        kept += sorted({min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])})
    return [points[0], *(p for p in kept if p not in (points[0], points[-1])), points[-1]]


def nice_range(low: float, high: float) -> tuple[tuple[float, float], list[float]]:
    """A range that holds both, with three to five round marks."""
    if low == high == 0.0:
        high = 1.0
    elif high - low < 1e-12 * max(1.0, abs(high)):
        pad = abs(high) * 0.5 or 0.5
        low, high = low - pad, high + pad
    raw = (high - low) / 3
    size = 10.0 ** math.floor(math.log10(raw))
    step = next((m * size for m in (1, 2, 2.5, 5, 10) if raw <= m * size), 10 * size)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return (first * step, last * step), [i * step for i in range(first, last + 1)]


def tick_label(value: float, apart: float) -> str:
    """A mark's number with as many places as tell it from the next mark."""
    places = max(0, math.ceil(-math.log10(apart) + 1e-9)) if apart > 0 else 0
    if abs(value) >= 10_000 or places > 5:
        return short(value)
    exact = f"{value:.{places}f}"
    return exact if abs(float(exact) - value) < apart / 100 else f"{value:.{places + 1}f}"


def short(value: float) -> str:
    """A number in few characters."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.2g}".replace("e+0", "e").replace("e-0", "e-")
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:.4g}" if abs(value) >= 1 else f"{value:.3g}"
