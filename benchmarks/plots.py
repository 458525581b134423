"""Plots as SVG: lines over logarithmic axes, with the range of each point.

The same data gives the same text, so that a test can tell whether a plot belongs to its figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 230, 40, 50
_COLOURS = ("#1f6feb", "#d1242f", "#2da44e", "#8250df", "#bf8700")


@dataclass(frozen=True)
class Point:
    """One measurement: where it stands, its median, and its range."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Axis:
    """A logarithmic axis.

    Attributes:
        label: what it shows, with the unit.
        low: power of ten that it begins with.
        high: power of ten that it ends with.
        begin: pixel where it begins.
        end: pixel where it ends.
    """

    label: str
    low: int
    high: int
    begin: float
    end: float

    @classmethod
    def of(cls, label: str, values: Sequence[float], begin: float, end: float) -> Axis:
        """Return the axis that holds the values, all of them positive."""
        low, high = floor(log10(min(values))), ceil(log10(max(values)))
        return cls(label, low, max(high, low + 1), begin, end)

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        part = (log10(value) - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)

    @property
    def ticks(self) -> list[float]:
        """Its powers of ten."""
        return [10.0**power for power in range(self.low, self.high + 1)]


def plot(title: str, labels: tuple[str, str], lines: Mapping[str, Sequence[Point]]) -> str:
    """Return an SVG of lines over logarithmic axes.

    Args:
        title: what stands above it.
        labels: of the horizontal and the vertical axis.
        lines: name -> points from left to right.
    """
    points = [point for line in lines.values() for point in line]
    x = Axis.of(labels[0], [point.x for point in points], _LEFT, _WIDTH - _RIGHT)
    heights = [height for point in points for height in (point.low, point.high)]
    y = Axis.of(labels[1], heights, _HEIGHT - _BOTTOM, _TOP)
    body = [*_frame(title, x, y)]
    for number, (name, line) in enumerate(lines.items()):
        body += _line(name, line, x, y, number)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
    style = 'font-family="sans-serif" font-size="12" fill="#1f2328"'
    return "\n".join([f"{head} {style}>", *body, "</svg>", ""])


def _frame(title: str, x: Axis, y: Axis) -> Iterator[str]:
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>'
    yield _text(_LEFT, 22, title, 'font-size="14" font-weight="bold"')
    for tick in x.ticks:
        place = x.at(tick)
        yield _stroke((place, y.begin), (place, y.end), "#d0d7de")
        yield _text(place, y.begin + 18, f"{tick:g}", 'text-anchor="middle"')
    for tick in y.ticks:
        place = y.at(tick)
        yield _stroke((x.begin, place), (x.end, place), "#d0d7de")
        yield _text(x.begin - 8, place + 4, f"{tick:g}", 'text-anchor="end"')
    yield _text((x.begin + x.end) / 2, _HEIGHT - 12, x.label, 'text-anchor="middle"')
    turned = f'text-anchor="middle" transform="rotate(-90 18 {(y.begin + y.end) / 2:.1f})"'
    yield _text(18, (y.begin + y.end) / 2, y.label, turned)


def _line(name: str, line: Sequence[Point], x: Axis, y: Axis, number: int) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    path = " ".join(f"{x.at(point.x):.1f},{y.at(point.y):.1f}" for point in line)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for point in line:
        place = x.at(point.x)
        yield _stroke((place, y.at(point.low)), (place, y.at(point.high)), colour)
        yield f'<circle cx="{place:.1f}" cy="{y.at(point.y):.1f}" r="3.5" fill="{colour}"/>'
    row = _TOP + 14 + 20 * number
    yield f'<circle cx="{x.end + 16:.1f}" cy="{row - 4}" r="4" fill="{colour}"/>'
    yield _text(x.end + 26, row, name)


def _stroke(begin: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    (x1, y1), (x2, y2) = begin, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{" " if more else ""}{more}>{escape(text)}</text>'
