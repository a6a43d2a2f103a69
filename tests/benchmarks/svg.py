"""Charts as SVG text: colours for light and for dark pages, and lines through points."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from infra.settings import ROOT

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 44, 46
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.page { fill: #ffffff; } .quiet { fill: #59636e; } .title { font-weight: 600; }
.bar { fill: #8c959f; } .ours { fill: #0969da; } .grid { stroke: #d1d9e0; } .spread { stroke: #1f2328; }
.line { fill: none; stroke: #8c959f; stroke-width: 2; } .our-line { fill: none; stroke: #0969da; stroke-width: 2; }
.dashed { stroke-dasharray: 5 4; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .page { fill: #0d1117; } .quiet { fill: #9198a1; }
  .bar { fill: #656c76; } .ours { fill: #4493f8; } .grid { stroke: #3d444d; } .spread { stroke: #f0f6fc; }
  .line { stroke: #656c76; } .our-line { stroke: #4493f8; }
}
"""


@dataclass(frozen=True)
class Point:
    """low, high: of the rounds; both 0 if there was one value only."""

    x: float
    y: float
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[Point]
    ours: bool = False
    dashed: bool = False


def add_option(parser: ArgumentParser, name: str) -> None:
    """`--svg`, whose value is the file of the chart, or None."""
    usual = ROOT / "docs" / "benchmarks" / f"{name}.svg"
    parser.add_argument("--svg", type=Path, nargs="?", const=usual, help="write the chart, into docs/benchmarks by default")


def write(file: Path, chart: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(chart)


def head(width: float, height: float, title: str, label: str) -> Iterator[str]:
    """The beginning of a chart. label: for those who cannot see it."""
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">'
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="page" width="{width:.0f}" height="{height:.0f}"/>'
    yield f'<text class="title" x="16" y="24">{escape(title)}</text>'


def lines(title: str, x_label: str, drawn: Sequence[Line]) -> str:
    """A chart with linear axes from 0. Raises ValueError without points."""
    points = [point for line in drawn for point in line.points]
    if not points:
        raise ValueError("there is no point to draw")
    step = _step(max(max(point.y, point.high) for point in points))
    top = step * -(-max(max(point.y, point.high) for point in points) // step)
    right = max(point.x for point in points)

    def x(value: float) -> float:
        return LEFT + value / right * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    body = [*head(WIDTH, HEIGHT, title, f"{title}, by {x_label}")]
    for number in range(round(top / step) + 1):
        at = y(number * step)
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        body.append(f'<text class="quiet" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number * step:,.0f}</text>')
    for value in sorted({point.x for point in points}):
        body.append(
            f'<text class="quiet" x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:,.10g}</text>'
        )
    body.append(f'<text class="quiet" x="{x(right / 2):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    ends: list[float] = []
    for line in sorted(drawn, key=lambda line: -line.points[-1].y):
        kind = ("our-line" if line.ours else "line") + (" dashed" if line.dashed else "")
        body.append(
            f'<polyline class="{kind}" points="{" ".join(f"{x(point.x):.1f},{y(point.y):.1f}" for point in line.points)}"/>'
        )
        for point in line.points:
            body.append(f'<circle class="{"ours" if line.ours else "bar"}" cx="{x(point.x):.1f}" cy="{y(point.y):.1f}" r="3"/>')
            if point.high > point.low:
                at = x(point.x)
                body.append(
                    f'<line class="spread" x1="{at:.1f}" x2="{at:.1f}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"/>'
                )
        ends.append(max(y(line.points[-1].y), ends[-1] + 16 if ends else 0))  # names do not overlap
        body.append(f'<text x="{WIDTH - RIGHT + 10}" y="{ends[-1] + 4:.1f}">{escape(line.name)}</text>')
    return "\n".join([*body, "</svg>", ""])


def _step(highest: float) -> float:
    """Between two lines of the grid: 1, 2 or 5 times a power of ten, with at most six lines."""
    power = 10.0 ** (len(f"{highest:.0f}") - 1)
    steps = [power / 10, power / 5, power / 2, power, power * 2]
    return next((step for step in steps if highest / step <= 6), steps[-1])
