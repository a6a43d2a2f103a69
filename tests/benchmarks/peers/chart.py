"""The figures of `bench peers` as a bar chart: SVG as text, on a logarithmic scale, in groups by guarantee."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Any

from tests.benchmarks.svg import head

WIDTH, LEFT, RIGHT, TOP = 760, 214, 96, 44
ROW, BAR, GROUP_GAP = 26, 16, 34
NAMES = {"at-most-once": "At most once", "at-least-once": "At least once", "exactly-once": "Exactly once"}


class Scale:
    """From a rate to a place on the chart: whole powers of ten that contain all rates."""

    def __init__(self, rates: Sequence[float]) -> None:
        self.low = math.floor(math.log10(min(rates)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(rates))))

    def x(self, rate: float) -> float:
        share = (math.log10(rate) - self.low) / (self.high - self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)


def chart(figures: Sequence[dict[str, Any]]) -> str:
    """figures: those of `goals.figures_of` that have a guarantee and a rate, in their order. Raises ValueError without any."""
    rates = [one for one in figures if "guarantee" in one and one["value"] > 0]
    if not rates:
        raise ValueError("there is no rate to draw")
    scale = Scale([end for one in rates for end in one["spread"]])
    body, y = [], float(TOP)
    for guarantee, group in groupby(rates, key=lambda one: one["guarantee"]):
        body.append(f'<text class="title" x="16" y="{y + 14:.0f}">{NAMES[guarantee]}</text>')
        y += GROUP_GAP - 8
        for one in sorted(group, key=lambda one: -one["value"]):
            body += _row(one, scale, y)
            y += ROW
        y += 14
    height = y + 30
    label = "Records per second by program, logarithmic scale, grouped by guarantee"
    title = "Records per second, median of the rounds (line: minimum to maximum)"
    return "\n".join([*head(WIDTH, height, title, label), *_grid(scale, y), *body, "</svg>", ""])


def _grid(scale: Scale, bottom: float) -> Iterator[str]:
    for power in range(scale.low, scale.high + 1):
        x = scale.x(10.0**power)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom:.0f}"/>'
        yield f'<text class="quiet" x="{x:.1f}" y="{bottom + 18:.0f}" text-anchor="middle">{10**power:,}</text>'


def _row(one: dict[str, Any], scale: Scale, y: float) -> Iterator[str]:
    title = one["name"].partition(": ")[2]
    kind = "ours" if one["program"].startswith("millrace") else "bar"
    low, high = (scale.x(end) for end in one["spread"])
    middle = y + BAR / 2
    yield f'<text x="{LEFT - 10}" y="{y + 13:.1f}" text-anchor="end">{escape(title)}</text>'
    yield f'<rect class="{kind}" x="{LEFT}" y="{y:.1f}" width="{scale.x(one["value"]) - LEFT:.1f}" height="{BAR}" rx="2"/>'
    yield f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>'
    yield f'<text x="{high + 8:.1f}" y="{y + 13:.1f}">{one["value"]:,.0f}</text>'
